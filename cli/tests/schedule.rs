//! `tipstaff schedule` as a process, and the examples that the documentation shows of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::{Command, Output};

use jiff::{Timestamp, tz::Offset};

const DOCUMENTATION: &str = include_str!("../../docs/schedules.md");

fn schedule(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tipstaff")).arg("schedule").args(arguments).output().unwrap()
}

fn printed(arguments: &[&str]) -> String {
    let output = schedule(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The words of a shell command; single quotes hold them together.
fn words(command: &str) -> Vec<&str> {
    let quoted = command.split('\'').enumerate();
    quoted
        .flat_map(
            |(number, text)| if number % 2 == 1 { vec![text] } else { text.split_whitespace().collect() },
        )
        .collect()
}

#[test]
fn the_documentation_shows_what_is_printed() {
    let blocks = DOCUMENTATION.split("```console\n").skip(1).map(|text| text.split_once("```").unwrap().0);
    let mut examples = 0;
    for example in blocks.flat_map(|block| block.split("$ tipstaff schedule ").skip(1)) {
        let (command, output) = example.split_once('\n').unwrap();
        assert_eq!(printed(&words(command)), output, "{command}");
        examples += 1;
    }
    assert_eq!(examples, DOCUMENTATION.matches("$ tipstaff").count());
    assert!(examples >= 5);
}

#[test]
fn without_options_it_prints_five_times_from_now_on_in_utc() {
    let before = Timestamp::now();
    let printed = printed(&["* * * * *"]);
    let times: Vec<Timestamp> = printed.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(times.len(), 5);
    assert!(times[0] > before);
    assert!(printed.lines().all(|line| line.ends_with("+00:00")), "{printed}");
    assert!(times.windows(2).all(|pair| pair[1].as_second() - pair[0].as_second() == 60), "{printed}");
}

#[test]
fn it_prints_what_there_is_where_the_calendar_ends() {
    let printed = printed(&["@yearly", "--after", "9997-06-01T00:00:00Z", "-n", "10"]);
    assert_eq!(printed, "9998-01-01T00:00:00+00:00\n9999-01-01T00:00:00+00:00\n");
    assert_eq!(printed_first("@yearly", "9999-06-01T00:00:00Z"), None);
}

fn printed_first(expression: &str, after: &str) -> Option<String> {
    printed(&[expression, "--after", after, "-n", "1"]).lines().next().map(str::to_owned)
}

#[test]
fn after_may_have_any_offset_and_is_not_printed_itself() {
    let midnight = "2026-01-01T05:30:00+05:30".parse::<Timestamp>().unwrap();
    assert_eq!(Offset::UTC.to_datetime(midnight).to_string(), "2026-01-01T00:00:00");
    assert_eq!(printed_first("@daily", "2026-01-01T05:30:00+05:30").unwrap(), "2026-01-02T00:00:00+00:00");
    assert_eq!(printed_first("@daily", "2026-01-01T05:29:59+05:30").unwrap(), "2026-01-01T00:00:00+00:00");
}

#[test]
fn what_is_wrong_is_told_as_a_usage_error() {
    for (arguments, message) in [
        (&["0 25 * * *"][..], r#"'<CRON>': has an invalid hour "25": a value must be between 0 and 23"#),
        (&["0 9 * *"], "'<CRON>': must be five fields"),
        (&["0 0 30 2 *"], "'<CRON>': never occurs"),
        (
            &["@daily", "--time-zone", "Mars/Olympus"],
            r#"'--time-zone <ZONE>': must be an IANA time zone such as Europe/Berlin; "Mars/Olympus" is not known"#,
        ),
        (&["@daily", "--after", "yesterday"], "'--after <RFC3339>'"),
        (&["@daily", "-n", "0"], "'-n <N>'"),
        (&[], "<CRON>"),
    ] {
        let output = schedule(arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
        assert!(errors.contains(message), "{arguments:?}: {errors}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}
