//! Parsing and comparing alone: no catalog, no events, one thread. What counts is the CPU time that the thread takes.

use std::{collections::BTreeMap, fs, hint::black_box, path::Path};

use changes::{Change, ChangeKind, Extent, Extract};
use content::{Document, Kind, Query, Selection, SelectorSpec};
use events::BoxError;
use tests::Random;

use crate::{
    report::{Measure, Report, Unit},
    statistics::growth_exponent,
    system::cpu_seconds_of_thread,
};

/// Pages of courts, as they were on the web.
const PAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/corpus/courts/pages");
/// Those of about 20 KiB count.
const SIZES: std::ops::Range<usize> = 15_000..32_000;
const KIBIBYTES: f64 = 20.0;

const LEAST_PAGES_A_SECOND: f64 = 1000.0;
const MOST_MILLISECONDS_OF_A_DIFF: f64 = 100.0;
/// The exponent by which its cost grows with the texts.
const MOST_GROWTH: f64 = 1.05;
/// How often texts are compared for a figure: once is over in a millisecond, in which other things happen too.
const COMPARISONS: usize = 10;
/// In how many parts as much text is compared, to see how the cost grows.
const PARTS: [usize; 3] = [1, 4, 16];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How often all pages are parsed in a repetition
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// How large the texts are that are compared, in bytes
    #[arg(long, default_value_t = 1_000_000)]
    bytes: usize,
    /// How often to measure
    #[arg(long, default_value_t = 5)]
    repeats: usize,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Report, BoxError> {
    let mut report = Report::new("bench content: parsing and comparing, one thread, by its CPU time");
    let pages = pages()?;
    let bytes: usize = pages.iter().map(|page| page.len()).sum();
    report.note(format!(
        "{} pages of {:.1} KiB on average; pages a second are those of {KIBIBYTES:.0} KiB, by bytes.",
        pages.len(),
        bytes as f64 / 1024.0 / pages.len() as f64
    ));
    let floor = pages_a_second(arguments, &pages, |page| {
        let text = content::charset::decode(page, Some("text/html")).text;
        black_box(content::tree::parse(&text)?);
        Ok(())
    })?;
    report.add(Measure::repeated("pages decoded and made trees, and no more", Unit::EachSecond, floor));
    for (name, selection) in [
        ("pages parsed with a selector for the text and one for links", of_body()?),
        ("pages parsed without selectors: the main text", Selection::new(&BTreeMap::new(), &[], &[])?),
    ] {
        let parsed = pages_a_second(arguments, &pages, |page| {
            let content_type = Some("text/html");
            let document = Document { bytes: page, content_type, kind: Kind::of(page, content_type) };
            black_box(content::extract(&document, &selection)?);
            Ok(())
        })?;
        report.add(Measure::repeated(name, Unit::EachSecond, parsed).at_least(LEAST_PAGES_A_SECOND));
    }
    let divided = PARTS.map(|parts| divided(arguments.bytes, parts));
    for (index, (name, ..)) in divided[0][0].iter().enumerate() {
        let mut milliseconds = Vec::new();
        let mut exponents = Vec::new();
        // The first time is not counted: it makes room in memory for those that follow.
        for repeat in 0..=arguments.repeats {
            let each = divided.each_ref().map(|parts| {
                let compared = (0..COMPARISONS).flat_map(|_| parts).map(|texts| compare(&texts[index]));
                let (milliseconds, count) = (compared.sum::<f64>() / COMPARISONS as f64, parts.len() as f64);
                (arguments.bytes as f64 / count, milliseconds / count)
            });
            if repeat > 0 {
                exponents.push(growth_exponent(&each));
                milliseconds.push(each[0].1);
            }
        }
        let name = format!("{:.1} MB compared: {name}", arguments.bytes as f64 / 1e6);
        let measure = Measure::repeated(name, Unit::Milliseconds, milliseconds);
        report.add(measure.at_most(MOST_MILLISECONDS_OF_A_DIFF));
        let name = format!("  exponent by which that grows from a {}th on", PARTS[2]);
        report.add(Measure::repeated(name, Unit::Factor, exponents).at_most(MOST_GROWTH));
    }
    Ok(report)
}

fn pages() -> Result<Vec<Vec<u8>>, BoxError> {
    let mut pages = Vec::new();
    for entry in fs::read_dir(Path::new(PAGES)).map_err(|error| format!("{PAGES}: {error}"))? {
        pages.push(fs::read(entry?.path())?);
    }
    pages.retain(|page| SIZES.contains(&page.len()));
    if pages.is_empty() {
        return Err(format!("{PAGES} has no pages of about {KIBIBYTES} KiB").into());
    }
    Ok(pages)
}

/// What an author would write: the text is the body's, and the links are told one by one.
fn of_body() -> Result<Selection, BoxError> {
    let css = |query: &str, attr: Option<&str>| SelectorSpec {
        query: Query::Css(query.to_owned()),
        attr: attr.map(str::to_owned),
        all: attr.is_some(),
    };
    let selectors = BTreeMap::from([
        ("body".to_owned(), css("body", None)),
        ("links".to_owned(), css("a[href]", Some("href"))),
    ]);
    Ok(Selection::new(&selectors, &[], &[])?)
}

fn pages_a_second(
    arguments: &Arguments,
    pages: &[Vec<u8>],
    parse: impl Fn(&[u8]) -> Result<(), BoxError>,
) -> Result<Vec<f64>, BoxError> {
    let kibibytes = pages.iter().map(|page| page.len()).sum::<usize>() as f64 / 1024.0;
    let equivalents = kibibytes / KIBIBYTES * arguments.rounds as f64;
    let once = || {
        let before = cpu_seconds_of_thread();
        for page in (0..arguments.rounds).flat_map(|_| pages) {
            parse(page)?;
        }
        Ok(equivalents / (cpu_seconds_of_thread() - before))
    };
    (0..arguments.repeats).map(|_| once()).collect()
}

/// Milliseconds of CPU.
fn compare((_, old, new): &Texts) -> f64 {
    let fields = BTreeMap::new();
    let before = cpu_seconds_of_thread();
    let extract = |text| Some(Extract { text, fields: &fields });
    black_box(Change::of(ChangeKind::Changed, extract(old), extract(new), Extent::Bounded));
    (cpu_seconds_of_thread() - before) * 1e3
}

/// How it differs, and the two.
type Texts = (&'static str, String, String);

/// So many bytes of each kind, in so many pairs of texts of different lines, but for the kind that has few.
fn divided(bytes: usize, parts: usize) -> Vec<[Texts; 6]> {
    (0..parts).map(|part| texts(bytes / parts, part * bytes)).collect()
}

/// Pairs of texts of so many bytes, of which each differs in a way of its own. Their lines are those of a number and after.
fn texts(bytes: usize, first_line: usize) -> [Texts; 6] {
    let text = |line: &dyn Fn(usize) -> String| {
        let mut text = String::with_capacity(bytes + 4096);
        for number in first_line.. {
            if text.len() >= bytes {
                break;
            }
            text.push_str(&line(number));
        }
        text
    };
    let lines = |seed: u64| text(&|number| sentence(seed, number, 12) + "\n");
    let worded = |every: usize, words: usize| {
        let changed = |number: usize| {
            let line = sentence(1, number, words);
            if number.is_multiple_of(every) { line.replacen(' ', " amended ", 1) + "\n" } else { line + "\n" }
        };
        text(&changed)
    };
    let paragraphs = text(&|number| sentence(1, number, 300) + "\n");
    // Few different lines, in orders of their own: nothing occurs once.
    let repetitive =
        |seed: u64| text(&|number| sentence(1, Random::new(seed, number as u64).below(40), 3) + "\n");
    [
        ("a word in every 100th line", lines(1), worded(100, 12)),
        ("a word in every 10th line", lines(1), worded(10, 12)),
        ("a word in every line", lines(1), worded(1, 12)),
        ("a word in every paragraph of 2 KB", paragraphs, worded(1, 300)),
        ("no line in common", lines(1), lines(2)),
        ("the same 40 lines again and again, in another order", repetitive(1), repetitive(2)),
    ]
}

/// So many words, which follow from seed and number.
fn sentence(seed: u64, number: usize, words: usize) -> String {
    const WORDS: [&str; 16] = [
        "court", "the", "of", "petition", "denied", "and", "order", "section", "granted", "in", "appeal",
        "judgment", "to", "statute", "motion", "notice",
    ];
    let mut random = Random::new(seed, number as u64);
    let mut word = |_| {
        let suffix = if random.percent(12) { random.below(1000) } else { 0 };
        format!("{}{suffix}", WORDS[random.below(WORDS.len())])
    };
    (0..words).map(&mut word).collect::<Vec<_>>().join(" ")
}
