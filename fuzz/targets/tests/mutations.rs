//! Each target holds over random mutations of its seeds. libFuzzer finds more, by what the code covers (`make fuzz`); this
//! finds what is near, with the ordinary build. The mutations are the same each time: `FUZZ_SEED` makes others, and
//! `FUZZ_MUTATIONS` more of them; `FUZZ_TARGET` takes one target alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{env, fs, ops::Range, panic, path::Path, process};

use fuzz_targets::{TARGETS, Target};
use tests::Random;

/// How many inputs of each target.
const MUTATIONS: u64 = 100;
/// The longest input that is made, in bytes.
const LONGEST: usize = 4096;

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// A range of a text, of 32 bytes at most or, now and then, of any length.
fn range(random: &mut Random, length: usize) -> Range<usize> {
    let start = random.below(length + 1);
    let longest = if random.percent(25) { length } else { 32 };
    start..start + random.below((length - start).min(longest) + 1)
}

/// One of the seeds with a few random changes.
fn mutated(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(6) {
        let place = range(random, input.len());
        match random.below(7) {
            0 => drop(input.drain(place)),
            1 if !input.is_empty() => {
                let at = random.below(input.len());
                input[at] ^= 1 << random.below(8);
            }
            2 => {
                let bytes: Vec<u8> =
                    (0..=random.below(4)).map(|_| u8::try_from(random.below(256)).unwrap()).collect();
                input.splice(place.start..place.start, bytes);
            }
            // Part of another seed.
            3 => {
                let other = &seeds[random.below(seeds.len())];
                let part = other[range(random, other.len())].to_vec();
                input.splice(place, part);
            }
            // A part of it once more, often.
            4 => {
                let times = 1 + random.below(40);
                let part = input[place.clone()].repeat(times);
                input.splice(place.end..place.end, part);
            }
            5 => {
                const WORDS: [&str; 20] = [
                    "\0",
                    "\u{FEFF}",
                    "\u{2028}",
                    "\u{301}",
                    "é",
                    "%",
                    "9999999999999999999",
                    "-1",
                    "1e999",
                    "\r",
                    "\n",
                    "\n====\n",
                    "<",
                    "&#x0;",
                    "\"",
                    "\\",
                    " ",
                    "\u{7f}",
                    "𝅘𝅥𝅮",
                    "*",
                ];
                input.splice(place, WORDS[random.below(WORDS.len())].bytes());
            }
            _ => {
                let target = random.below(input.len() + 1);
                let part: Vec<u8> = input.drain(place).collect();
                let target = target.min(input.len());
                input.splice(target..target, part);
            }
        }
        input.truncate(LONGEST);
    }
    input
}

fn seeds(target: Target) -> Vec<Vec<u8>> {
    let folders = ["corpus", "regressions"]
        .map(|kind| Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(kind).join(target.name));
    let files = folders.iter().flat_map(fs::read_dir).flatten();
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn every_target_holds_over_mutations_of_its_seeds() {
    let only = env::var("FUZZ_TARGET").ok();
    let mut failed = Vec::new();
    for target in TARGETS.into_iter().filter(|target| only.as_deref().is_none_or(|only| only == target.name))
    {
        let seeds = seeds(target);
        let mut random = Random::new(number("FUZZ_SEED", 1), 0);
        let file = env::temp_dir().join(format!("tipstaff-fuzz-{}-{}", target.name, process::id()));
        let count = number("FUZZ_MUTATIONS", MUTATIONS);
        let holds = (0..count).all(|_| {
            let input = mutated(&mut random, &seeds);
            // Before it is run: it may end the process.
            fs::write(&file, &input).unwrap();
            panic::catch_unwind(|| (target.run)(&input)).is_ok()
        });
        if holds {
            fs::remove_file(&file).unwrap();
        } else {
            failed.push(file);
        }
    }
    assert!(failed.is_empty(), "properties do not hold over {failed:#?}");
}
