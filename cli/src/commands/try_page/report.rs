//! What came of a page, for people.

use super::trial::{Cut, Trial};
use crate::commands::show::{counted, one_line};
use crate::output::short_hash;

/// Where what follows a line's word begins.
const INDENT: usize = 12;
/// The longest value that is shown, in characters.
const LONGEST: usize = 160;
/// How many values of a selector, or texts of a cut, are shown.
const MOST_VALUES: usize = 10;
/// How many lines of text are shown.
const MOST_LINES: usize = 40;

pub(super) fn render(trial: &Trial) -> String {
    let mut lines =
        vec![line("page", &page(trial)), line("tried", &format!("{}, {}", trial.subscription, trial.source))];
    lines.push(line("parser", &format!("{}, version {}", trial.parser, trial.parser_version)));
    for (name, values) in &trial.fields {
        lines.extend(listed(&format!("{name} ="), &shown(values)));
    }
    for name in &trial.absent {
        lines.push(line(&format!("{name} ="), "matches nothing, as it may"));
    }
    for name in &trial.missing {
        lines.push(line(&format!("{name} ="), "MATCHES NOTHING"));
    }
    for name in &trial.passed_over {
        let why = format!("passed over: its language is not one for {}", trial.kind);
        lines.push(line(&format!("{name} ="), &why));
    }
    lines.extend(trial.removed.iter().flat_map(|removed| cut("removed", removed, "element", "elements")));
    lines.extend(trial.ignored.iter().flat_map(|ignored| cut("ignored", ignored, "match", "matches")));
    lines.extend(text(trial));
    lines.push(line("verdict", &verdict(trial)));
    lines.into_iter().map(|line| line + "\n").collect()
}

fn page(trial: &Trial) -> String {
    let mut said = vec![trial.kind.to_owned(), counted(trial.byte_size, "byte", "bytes")];
    said.extend(trial.status.map(|status| format!("status {status}")));
    said.extend(trial.content_type.as_ref().map(|content_type| one_line(content_type, LONGEST)));
    let led = trial.final_url.iter().filter(|url| **url != trial.page);
    said.extend(led.map(|url| format!("from {url}")));
    format!("{}  ({})", trial.page, said.join(", "))
}

/// A word, and what is to be said about it.
fn line(word: &str, rest: &str) -> String {
    format!("{word:<width$}{rest}", width = INDENT.max(word.chars().count() + 1)).trim_end().to_owned()
}

/// The first text behind the word, the others below it.
fn listed(word: &str, texts: &[String]) -> Vec<String> {
    let first = std::iter::once(word).chain(std::iter::repeat(""));
    first.zip(texts).map(|(word, text)| line(word, text)).collect()
}

/// Values on a line each, as many as are shown.
fn shown(values: &[String]) -> Vec<String> {
    let mut shown: Vec<String> =
        values.iter().take(MOST_VALUES).map(|value| one_line(value, LONGEST)).collect();
    if values.len() > MOST_VALUES {
        shown.push(format!("… {} more", values.len() - MOST_VALUES));
    }
    shown
}

fn cut(word: &str, cut: &Cut, one: &str, many: &str) -> Vec<String> {
    let Cut { expression, texts } = cut;
    let count = if texts.is_empty() { "nothing".to_owned() } else { counted(texts.len(), one, many) };
    let heading = line(word, &format!("{}: {count}", one_line(expression, LONGEST)));
    let texts = shown(texts).into_iter().map(|text| line("", &format!("  {text}")));
    std::iter::once(heading).chain(texts).collect()
}

fn text(trial: &Trial) -> Vec<String> {
    let count = trial.text.lines().count();
    let (lines_said, bytes) = (counted(count, "line", "lines"), counted(trial.text.len(), "byte", "bytes"));
    let heading = line("text", &format!("{lines_said}, {bytes}, sha256 {}", short_hash(&trial.text_hash)));
    let mut lines = vec![heading];
    let shown = trial.text.lines().take(MOST_LINES);
    lines.extend(shown.map(|line| format!("  | {line}").trim_end().to_owned()));
    if count > MOST_LINES {
        lines.push(format!("  … {} more; -o json has all", counted(count - MOST_LINES, "line", "lines")));
    }
    lines
}

fn verdict(trial: &Trial) -> String {
    if let Some(sign) = &trial.looks_blocked {
        return format!("it looks like {sign}, and not like the document (LooksBlocked)");
    }
    if trial.missing.is_empty() {
        return "a run would keep this text".to_owned();
    }
    let names = trial.missing.join(", ");
    let which = if trial.missing.len() == 1 { "selector matches" } else { "selectors match" };
    format!(
        "a run would fail: the {which} nothing: {names} (SelectorMatchedNothing); what a document may lack is `optional`"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const DOCUMENTATION: &str = include_str!("../../../../docs/cli.md");

    fn trial() -> Trial {
        let text = "Opinion of the Court\nThe judgment is reversed.\nIt is so ordered.";
        let values = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
        Trial {
            subscription: "default/opinions".into(),
            source: "default/court".into(),
            page: "https://court.example/opinions/24-18".into(),
            final_url: Some("https://court.example/opinions/24-18/".into()),
            status: Some(200),
            content_type: Some("text/html; charset=utf-8".into()),
            byte_size: 12_345,
            kind: "html",
            parser: "html",
            parser_version: 1,
            text: text.into(),
            text_hash: "0c5d".repeat(16),
            fields: [
                ("judges".to_owned(), values(&["Kagan", "Barrett"])),
                ("title".to_owned(), values(&["Smith v. Jones"])),
            ]
            .into(),
            missing: values(&["docket"]),
            absent: values(&["dissent"]),
            passed_over: Vec::new(),
            removed: vec![
                Cut { expression: "nav".into(), texts: values(&["Home Opinions Orders"]) },
                Cut { expression: ".ad".into(), texts: Vec::new() },
            ],
            ignored: vec![Cut {
                expression: "^Printed on .*$".into(),
                texts: values(&["Printed on 9 March 2026"]),
            }],
            looks_blocked: None,
        }
    }

    #[test]
    fn the_documentation_shows_a_page() {
        let shown = render(&trial());
        assert!(DOCUMENTATION.contains(&shown), "{shown}");
        assert!(!trial().is_good());
    }

    #[test]
    fn the_verdict_is_that_of_a_run() {
        let good = Trial { missing: Vec::new(), ..trial() };
        assert_eq!((good.is_good(), verdict(&good).as_str()), (true, "a run would keep this text"));
        let blocked = Trial { looks_blocked: Some("a captcha".into()), ..good };
        assert!(!blocked.is_good());
        assert!(verdict(&blocked).starts_with("it looks like a captcha,"));
    }

    #[test]
    fn what_is_long_is_cut_and_counted() {
        let many = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
        let long =
            Trial { text: many(43).join("\n"), fields: [("links".to_owned(), many(12))].into(), ..trial() };
        let shown = render(&long);
        assert!(shown.contains("\n            … 2 more\n"), "{shown}");
        assert!(shown.contains("  | 39\n  … 3 lines more; -o json has all\n"), "{shown}");
        assert!(shown.contains("text        43 lines, "), "{shown}");
    }

    #[test]
    fn a_selector_of_another_language_is_passed_over() {
        let pdf = Trial { kind: "pdf", passed_over: vec!["a_long_selector_name".into()], ..trial() };
        let expected = "a_long_selector_name = passed over: its language is not one for pdf\n";
        assert!(render(&pdf).contains(expected));
    }
}
