//! The pages: HTML that is also well-formed XML, and an Atom feed (RFC 4287).

use std::fmt::Write;

use jiff::Timestamp;

use super::court::{Edition, Opinion};

const COURT: &str = "Court of Appeals of Examplia";
const FOOTER: &str = "<footer><p>Examplia, its court and everybody named here are fictitious. \
    This sample site is part of Tipstaff.</p></footer>";

/// The page with the recent opinions.
pub(super) fn opinions(edition: &Edition) -> String {
    let mut items = String::new();
    for opinion in edition.recent() {
        let Opinion { number, title, docket, filed, .. } = &opinion;
        // Writing to a String cannot fail.
        let _ = write!(
            items,
            "\n<li class=\"opinion\">\n\
             <h2><a href=\"/opinions/{number}\">{}</a></h2>\n\
             <p>No. <span class=\"docket\">{docket}</span>, filed {}{}</p>\n\
             </li>",
            text(title),
            time(*filed),
            correction(&opinion),
        );
    }
    page("Recent opinions", &format!("<h1>Recent opinions</h1>\n<ol class=\"opinions\">{items}\n</ol>"))
}

/// The page of one opinion.
pub(super) fn opinion(opinion: &Opinion) -> String {
    let Opinion { title, docket, question, outcome, filed, .. } = opinion;
    let correction = correction(opinion);
    let title = text(title);
    let filed = time(*filed);
    page(
        &title,
        &format!(
            "<article>\n<h1>{title}</h1>\n\
             <p class=\"reference\">No. <span class=\"docket\">{docket}</span>, filed {filed}{correction}</p>\n\
             <p class=\"question\">The question is {question}.</p>\n\
             <p class=\"outcome\"><strong>{outcome}</strong></p>\n</article>"
        ),
    )
}

/// What is said of every other path.
pub(super) fn not_found() -> String {
    page("Not found", "<h1>Not found</h1>\n<p>The court has published nothing here.</p>")
}

/// The recent opinions as an Atom feed with links below `root`.
pub(super) fn feed(edition: &Edition, root: &str) -> String {
    let mut entries = String::new();
    for opinion in edition.recent() {
        let Opinion { number, title, docket, question, outcome, filed, corrected } = &opinion;
        // Writing to a String cannot fail.
        let _ = write!(
            entries,
            "<entry>\n<id>tag:examplia.example,2026:opinion/{number}</id>\n<title>{}</title>\n\
             <link href=\"{root}/opinions/{number}\"/>\n<published>{filed}</published>\n<updated>{}</updated>\n\
             <summary>No. {docket}: {question}. {outcome}</summary>\n</entry>\n",
            text(title),
            corrected.unwrap_or(*filed),
        );
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<feed xmlns=\"http://www.w3.org/2005/Atom\">\n\
         <id>tag:examplia.example,2026:opinions</id>\n<title>{COURT}: recent opinions</title>\n\
         <author><name>{COURT}</name></author>\n<link rel=\"self\" href=\"{root}/feed.xml\"/>\n\
         <link href=\"{root}/opinions\"/>\n<updated>{}</updated>\n{entries}</feed>\n",
        edition.published()
    )
}

fn page(title: &str, main: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<title>{title} - {COURT}</title>\n\
         <link rel=\"alternate\" type=\"application/atom+xml\" href=\"/feed.xml\"/>\n</head>\n<body>\n\
         <header><p>{COURT}</p>\n<nav><a href=\"/opinions\">Opinions</a> <a href=\"/feed.xml\">Feed</a></nav></header>\n\
         <main>\n{main}\n</main>\n{FOOTER}\n</body>\n</html>\n"
    )
}

fn correction(opinion: &Opinion) -> String {
    opinion
        .corrected
        .map(|corrected| format!("; <em class=\"corrected\">corrected {}</em>", time(corrected)))
        .unwrap_or_default()
}

fn time(time: Timestamp) -> String {
    format!("<time datetime=\"{time}\">{}</time>", time.strftime("%-d %B %Y, %H:%M:%S UTC"))
}

fn text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
