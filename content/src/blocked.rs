//! Pages that stand in for the document: challenges, refusals, log-ins. The signs are few and narrow, since a page that
//! is wrongly taken for one of them is never versioned: each needs a short page and a marker of its own.

use std::fmt;

use scraper::{ElementRef, Html, Selector};

use crate::{normalise::normalise, render};

/// The longest text, in bytes, of a page that stands in for another.
const LONGEST: usize = 1500;
/// The longest text, in bytes, of a bare refusal, challenge or log-in.
const LONGEST_BARE: usize = 500;

/// What a page was taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// Cloudflare's challenge or refusal.
    Cloudflare,
    /// Akamai's refusal.
    Akamai,
    /// Imperva's (Incapsula's) challenge.
    Imperva,
    /// DataDome's captcha.
    DataDome,
    /// HUMAN's (PerimeterX's) challenge.
    Human,
    /// The challenge of AWS WAF.
    AwsWaf,
    /// A captcha and nothing else.
    Captcha,
    /// A bare "access denied" or "too many requests".
    AccessDenied,
    /// A log-in form. It counts where selectors match nothing, or where the title says so.
    LoginForm {
        /// Whether the page's title is about logging in.
        is_titled: bool,
    },
}

/// As in a sentence: "it looks like …".
impl fmt::Display for Sign {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Cloudflare => "a challenge of Cloudflare",
            Self::Akamai => "a refusal by Akamai",
            Self::Imperva => "a challenge of Imperva",
            Self::DataDome => "a captcha of DataDome",
            Self::Human => "a challenge of HUMAN (PerimeterX)",
            Self::AwsWaf => "a challenge of AWS WAF",
            Self::Captcha => "a captcha",
            Self::AccessDenied => "a refusal of access",
            Self::LoginForm { .. } => "a log-in form",
        })
    }
}

/// Titles and first headings of bare refusals, in lower case.
const REFUSALS: [&str; 10] = [
    "access denied",
    "access forbidden",
    "forbidden",
    "403 forbidden",
    "403 - forbidden",
    "request rejected",
    "error 403",
    "too many requests",
    "429 too many requests",
    "you have been blocked",
];

/// What a page looks like, if it stands in for another: `source` is its markup, `page` its tree.
pub fn sign(source: &str, page: &Html) -> Option<Sign> {
    let text = render::text(*page.root_element(), LONGEST);
    if text.len() > LONGEST {
        return None;
    }
    let text = normalise(&text).to_lowercase();
    let title = first_text(page, "title");
    let is_bare = text.len() <= LONGEST_BARE;
    let has = |marker: &str| source.contains(marker);

    let signs = [
        (
            has("_cf_chl_opt")
                || has("/cdn-cgi/")
                    && (title == "just a moment..." || title.starts_with("attention required! | cloudflare"))
                || has("cf-error-details") && text.contains("cloudflare ray id"),
            Sign::Cloudflare,
        ),
        (text.contains("you don't have permission to access") && text.contains("reference #"), Sign::Akamai),
        (has("Incapsula incident ID") && has("_Incapsula_Resource"), Sign::Imperva),
        (is_bare && has("captcha-delivery.com"), Sign::DataDome),
        (has("px-captcha") && (has("_pxAppId") || title.contains("denied")), Sign::Human),
        (is_bare && (has("gokuProps") || has("awsWafCookieDomainList") && has("challenge.js")), Sign::AwsWaf),
        (is_bare && is_captcha(page, &text, &title), Sign::Captcha),
        (is_bare && (is_refusal(&title) || is_refusal(&first_text(page, "h1"))), Sign::AccessDenied),
    ];
    if let Some((_, sign)) = signs.into_iter().find(|(is_there, _)| *is_there) {
        return Some(sign);
    }
    let asks_for_password = is_bare && first(page, "input[type=password i]").is_some();
    asks_for_password.then(|| Sign::LoginForm { is_titled: is_about_login(&title) })
}

fn is_captcha(page: &Html, text: &str, title: &str) -> bool {
    let asks = ["not a robot", "are human", "are a human", "unusual traffic", "captcha", "security check"];
    first(page, ".g-recaptcha, .h-captcha, .cf-turnstile").is_some()
        && first(page, "article, main table, input[type=search]").is_none()
        && asks.iter().any(|words| text.contains(words) || title.contains(words))
}

fn is_refusal(heading: &str) -> bool {
    REFUSALS.contains(&heading.trim_end_matches(['.', '!']))
}

fn is_about_login(title: &str) -> bool {
    [
        "log in",
        "login",
        "sign in",
        "sign-in",
        "anmelden",
        "anmeldung",
        "connexion",
        "iniciar sesión",
        "accedi",
    ]
    .iter()
    .any(|words| title.contains(words))
}

fn first<'a>(page: &'a Html, selector: &str) -> Option<ElementRef<'a>> {
    let selector = Selector::parse(selector).ok()?;
    page.root_element().select(&selector).next()
}

/// The text of the first such element, in lower case.
fn first_text(page: &Html, name: &str) -> String {
    let element = page.root_element().descendent_elements().find(|element| element.value().name() == name);
    element.map(|element| normalise(&render::text(*element, LONGEST)).to_lowercase()).unwrap_or_default()
}
