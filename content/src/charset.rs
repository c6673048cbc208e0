//! From bytes to text, as browsers do it.
//!
//! In this order: a byte order mark, the charset the server declared, what the document says of itself in its first
//! 1024 bytes (the prescan of the HTML standard, and the XML declaration), UTF-8 where the bytes are valid UTF-8, and a
//! guess from the bytes.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252, X_USER_DEFINED};

use crate::sniff;

/// How far into a document its own word about its encoding is looked for, in bytes (HTML standard, 13.2.3.2).
const PRESCAN_BYTES: usize = 1024;

/// A document's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The text, without a byte order mark.
    pub text: String,
    /// The name of the encoding it was decoded from, as in the Encoding Standard: `UTF-8`, `windows-1252`.
    pub charset: &'static str,
    /// Whether bytes that mean nothing in this encoding were replaced by U+FFFD.
    pub had_errors: bool,
}

/// Decodes a document of HTML, XML or plain text. `declared_content_type` is the Content-Type header's value.
pub fn decode(bytes: &[u8], declared_content_type: Option<&str>) -> Decoded {
    let (encoding, mark) = match Encoding::for_bom(bytes) {
        Some(found) => found,
        None => (without_mark(bytes, declared_content_type), 0),
    };
    let (text, had_errors) = encoding.decode_without_bom_handling(bytes.get(mark..).unwrap_or_default());
    Decoded { text: text.into_owned(), charset: encoding.name(), had_errors }
}

/// The encoding that [`decode`] would take a document for, by its first bytes; none where these are no text.
pub fn of(head: &[u8], declared_content_type: Option<&str>) -> Option<&'static str> {
    let sniffed = sniff::content_type(head);
    if !sniffed.starts_with("text/") && !matches!(sniffed, "application/json" | "application/xml") {
        return None;
    }
    // The last character may have been cut.
    let whole = match std::str::from_utf8(head) {
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => error.valid_up_to(),
        _ => head.len(),
    };
    Some(decode(head.get(..whole).unwrap_or(head), declared_content_type).charset)
}

fn without_mark(bytes: &[u8], declared_content_type: Option<&str>) -> &'static Encoding {
    declared_content_type
        .and_then(charset_parameter)
        .and_then(|label| Encoding::for_label(label.as_bytes()))
        .or_else(|| own_word(bytes.get(..PRESCAN_BYTES).unwrap_or(bytes)))
        .unwrap_or_else(|| if std::str::from_utf8(bytes).is_ok() { UTF_8 } else { guess(bytes) })
}

fn guess(bytes: &[u8]) -> &'static Encoding {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    detector.feed(bytes, true);
    detector.guess(None, Utf8Detection::Allow)
}

/// The `charset` of a Content-Type, such as `text/html; charset="utf-8"`.
fn charset_parameter(content_type: &str) -> Option<&str> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches(['"', '\'']))
    })
}

/// What a document says about its encoding: an XML declaration, or a `<meta>`.
fn own_word(head: &[u8]) -> Option<&'static Encoding> {
    // An XML declaration in UTF-16 without a byte order mark.
    if head.starts_with(b"<\0?\0x\0") {
        return Some(UTF_16LE);
    }
    if head.starts_with(b"\0<\0?\0x") {
        return Some(UTF_16BE);
    }
    let found = xml_declaration(head).or_else(|| Prescan { bytes: head, at: 0 }.meta())?;
    // The word was read as ASCII, so the document cannot be in UTF-16 (HTML standard, prescan, steps 14 and 15).
    Some(match found {
        found if found == UTF_16LE || found == UTF_16BE => UTF_8,
        found if found == X_USER_DEFINED => WINDOWS_1252,
        found => found,
    })
}

fn xml_declaration(head: &[u8]) -> Option<&'static Encoding> {
    let rest = head.trim_ascii_start().strip_prefix(b"<?xml")?;
    let end = rest.windows(2).position(|pair| pair == b"?>")?;
    let declaration = rest.get(..end)?;
    let name = declaration.windows(8).position(|word| word == b"encoding")?;
    let value = declaration.get(name + 8..)?.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    let quote = *value.first().filter(|quote| matches!(quote, b'"' | b'\''))?;
    Encoding::for_label(value.get(1..)?.split(|byte| *byte == quote).next()?)
}

/// The HTML standard's prescan (13.2.3.2) for a `<meta>` that names the encoding.
struct Prescan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Prescan<'_> {
    fn meta(mut self) -> Option<&'static Encoding> {
        while let Some(rest) = self.bytes.get(self.at..).filter(|rest| !rest.is_empty()) {
            if rest.starts_with(b"<!--") {
                // `<!-->` is a whole comment: its end may use the dashes of its start.
                self.at += 2 + position(rest.get(2..)?, b"-->")? + 3;
            } else if starts_with_name(rest, b"<meta") {
                self.at += 5;
                if let Some(found) = self.meta_attributes() {
                    return Some(found);
                }
            } else if is_tag(rest) {
                self.at += rest.iter().position(|byte| byte.is_ascii_whitespace() || *byte == b'>')?;
                while self.attribute().is_some() {}
            } else if matches!(rest, [b'<', b'!' | b'/' | b'?', ..]) {
                self.at += rest.iter().position(|byte| *byte == b'>')? + 1;
            } else {
                self.at += 1;
            }
        }
        None
    }

    fn meta_attributes(&mut self) -> Option<&'static Encoding> {
        let (mut pragma, mut needs_pragma, mut charset) = (false, false, None);
        while let Some((name, value)) = self.attribute() {
            match name.as_slice() {
                b"http-equiv" => pragma |= value == b"content-type",
                b"content" if charset.is_none() => {
                    charset = charset_in_content(&value);
                    needs_pragma = charset.is_some();
                }
                b"charset" => {
                    charset = Encoding::for_label(&value);
                    needs_pragma = false;
                }
                _ => {}
            }
        }
        charset.filter(|_| pragma || !needs_pragma)
    }

    /// The next attribute of the tag, name and value in lower case; `None` behind the last one.
    fn attribute(&mut self) -> Option<(Vec<u8>, Vec<u8>)> {
        self.skip(|byte| byte.is_ascii_whitespace() || byte == b'/');
        let start = self.at;
        self.skip(|byte| !byte.is_ascii_whitespace() && !matches!(byte, b'/' | b'>' | b'='));
        if self.at == start && self.peek() == Some(b'=') {
            // A name may begin with an equals sign.
            self.at += 1;
            self.skip(|byte| !byte.is_ascii_whitespace() && !matches!(byte, b'/' | b'>' | b'='));
        }
        let name = self.bytes.get(start..self.at)?.to_ascii_lowercase();
        if name.is_empty() {
            return None;
        }
        self.skip(|byte| byte.is_ascii_whitespace());
        if self.peek() != Some(b'=') {
            return Some((name, Vec::new()));
        }
        self.at += 1;
        self.skip(|byte| byte.is_ascii_whitespace());
        let quote = self.peek().filter(|byte| matches!(byte, b'"' | b'\''));
        if quote.is_some() {
            self.at += 1;
        }
        let start = self.at;
        match quote {
            Some(quote) => self.skip(|byte| byte != quote),
            None => self.skip(|byte| !byte.is_ascii_whitespace() && byte != b'>'),
        }
        let value = self.bytes.get(start..self.at)?.to_ascii_lowercase();
        if quote.is_some() {
            // A value that the end of the head cut off is not a value.
            self.peek()?;
            self.at += 1;
        }
        Some((name, value))
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip(&mut self, is_skipped: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&is_skipped) {
            self.at += 1;
        }
    }
}

fn position(bytes: &[u8], word: &[u8]) -> Option<usize> {
    bytes.windows(word.len()).position(|window| window == word)
}

fn starts_with_name(bytes: &[u8], name: &[u8]) -> bool {
    bytes.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
        && bytes.get(name.len()).is_some_and(|next| next.is_ascii_whitespace() || *next == b'/')
}

fn is_tag(bytes: &[u8]) -> bool {
    let name = bytes.strip_prefix(b"</").or_else(|| bytes.strip_prefix(b"<"));
    name.and_then(<[u8]>::first).is_some_and(u8::is_ascii_alphabetic)
}

/// The charset in a `content` such as `text/html; charset=utf-8`.
fn charset_in_content(content: &[u8]) -> Option<&'static Encoding> {
    let mut rest = content;
    loop {
        rest = rest.get(position(rest, b"charset")? + 7..)?.trim_ascii_start();
        if let Some(value) = rest.strip_prefix(b"=") {
            let value = value.trim_ascii_start();
            let label = match value.first()? {
                quote @ (b'"' | b'\'') => {
                    let inner = value.get(1..)?;
                    inner.get(..inner.iter().position(|byte| byte == quote)?)?
                }
                _ => value.split(|byte| byte.is_ascii_whitespace() || *byte == b';').next()?,
            };
            return Encoding::for_label(label);
        }
    }
}

#[cfg(test)]
mod tests {
    use encoding_rs::{BIG5, EUC_JP, EUC_KR, GB18030, ISO_8859_2, KOI8_R, KOI8_U, SHIFT_JIS, WINDOWS_1251};
    use proptest::prelude::*;

    use super::*;

    fn encoded(text: &str, encoding: &'static Encoding) -> Vec<u8> {
        let (bytes, _, unmappable) = encoding.encode(text);
        assert!(!unmappable, "{text} does not exist in {}", encoding.name());
        bytes.into_owned()
    }

    fn utf_16le(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    fn utf_16be(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_be_bytes).collect()
    }

    #[test]
    fn the_first_bytes_of_a_text_tell_its_encoding_even_where_they_end_within_a_character() {
        assert_eq!(of(b"<p>ein St\xc3\xbcck \xc3", None), Some("UTF-8"));
        let declared = Some("text/html; charset=ISO-8859-1");
        assert_eq!(of(b"<p>caf\xe9 au lait", declared), Some("windows-1252"));
        assert_eq!(of(b"<meta charset=shift_jis><p>x", Some("text/html")), Some("Shift_JIS"));
        assert_eq!(of(b"\xff\xfe<\0p\0>\0", None), Some("UTF-16LE"));
        assert_eq!(of(b"{}", Some("application/json")), Some("UTF-8"));
        assert_eq!(of(b"%PDF-1.7", Some("text/html")), None);
        assert_eq!(of(b"", None), None);
    }

    #[test]
    fn a_declared_charset_is_what_the_bytes_are_read_as() {
        let cases = [
            ("Müller’s café – 5 €", WINDOWS_1252, "text/html; charset=windows-1252"),
            ("Müller’s café – 5 €", WINDOWS_1252, "text/html; Charset = \"ISO-8859-1\" "),
            ("判例集を公開しました", SHIFT_JIS, "text/html;charset=Shift_JIS"),
            ("判例集を公開しました", EUC_JP, "text/html; boundary=x; charset=euc-jp"),
            ("Sąd Najwyższy orzekł", ISO_8859_2, "text/plain; charset=iso-8859-2"),
            ("Верховный суд решил", KOI8_R, "text/html; charset=koi8-r"),
            ("Верховный суд решил", WINDOWS_1251, "text/html; charset='windows-1251'"),
            ("최고 법원의 판결", EUC_KR, "text/html; charset=ks_c_5601-1987"),
            ("最高人民法院公报", GB18030, "text/html; charset=gb18030"),
            ("最高法院公告", BIG5, "text/html; charset=big5"),
            ("Ünïcödé", UTF_8, "text/html; charset=utf8"),
        ];
        for (text, encoding, content_type) in cases {
            let decoded = decode(&encoded(text, encoding), Some(content_type));
            assert_eq!(
                decoded,
                Decoded { text: text.to_owned(), charset: encoding.name(), had_errors: false }
            );
        }
        let declared = decode(&utf_16be("Æther"), Some("text/plain; charset=utf-16be"));
        assert_eq!((declared.text.as_str(), declared.charset), ("Æther", "UTF-16BE"));
    }

    #[test]
    fn a_byte_order_mark_wins_over_what_was_declared() {
        let marked = |mark: &[u8], rest: Vec<u8>| [mark.to_vec(), rest].concat();
        let cases = [
            (marked(b"\xEF\xBB\xBF", "Žluť".into()), "UTF-8"),
            (marked(b"\xFF\xFE", utf_16le("Žluť")), "UTF-16LE"),
            (marked(b"\xFE\xFF", utf_16be("Žluť")), "UTF-16BE"),
        ];
        for (bytes, charset) in cases {
            let decoded = decode(&bytes, Some("text/html; charset=windows-1252"));
            assert_eq!(
                (decoded.text.as_str(), decoded.charset, decoded.had_errors),
                ("Žluť", charset, false)
            );
        }
    }

    #[test]
    fn a_document_says_itself_what_it_is_encoded_in() {
        let cases = [
            ("<html><head><meta charset=\"iso-8859-2\"><p>", "Sąd", ISO_8859_2),
            ("<META CHARSET=koi8-r />", "суд", KOI8_R),
            (
                "<meta name=a content='b'><meta content='text/html; charset=shift_jis' http-equiv=Content-Type>",
                "判例",
                SHIFT_JIS,
            ),
            (
                "<meta http-equiv='content-type' content='text/html;charset = \"windows-1251\"'>",
                "суд",
                WINDOWS_1251,
            ),
            ("<?xml version=\"1.0\" encoding='euc-jp' ?><rss>", "判例", EUC_JP),
            ("<?xml version='1.0' encoding=\"windows-1252\"?><rss>", "café", WINDOWS_1252),
            // Not the first one, which is a comment, nor the second, which belongs to another attribute.
            (
                "<!-- <meta charset=koi8-r> --><a title='<meta charset=koi8-r>'><meta charset=windows-1251>",
                "суд",
                WINDOWS_1251,
            ),
            ("<!--><meta charset=iso-8859-2>-->", "Sąd", ISO_8859_2),
            // A content without its pragma says nothing, nor does an unknown label.
            (
                "<meta content='text/html; charset=koi8-r'><meta charset=nonsense><meta charset=iso-8859-2>",
                "Sąd",
                ISO_8859_2,
            ),
            // What could be read as ASCII cannot be UTF-16.
            ("<meta charset=utf-16le>", "Sąd", UTF_8),
            ("<?xml version='1.0' encoding='utf-16'?>", "Sąd", UTF_8),
            ("<meta charset=x-user-defined>", "café", WINDOWS_1252),
        ];
        for (head, text, encoding) in cases {
            let bytes = [head.as_bytes().to_vec(), encoded(text, encoding)].concat();
            let decoded = decode(&bytes, Some("text/html"));
            assert_eq!((decoded.text, decoded.charset), (format!("{head}{text}"), encoding.name()), "{head}");
        }
    }

    #[test]
    fn what_is_declared_wins_over_what_the_document_says() {
        let bytes = [b"<meta charset=koi8-r>".to_vec(), encoded("суд", WINDOWS_1251)].concat();
        assert!(decode(&bytes, Some("text/html; charset=windows-1251")).text.ends_with("суд"));
        // An unknown label declares nothing.
        let bytes = [b"<meta charset=koi8-r>".to_vec(), encoded("суд", KOI8_R)].concat();
        assert!(decode(&bytes, Some("text/html; charset=none-such")).text.ends_with("суд"));
    }

    #[test]
    fn only_the_first_1024_bytes_are_asked() {
        let far = format!("<!-- {} --><meta charset=koi8-r>", " ".repeat(PRESCAN_BYTES));
        let decoded = decode(&[far.as_bytes(), "суд".as_bytes()].concat(), None);
        assert_eq!((decoded.charset, decoded.text.ends_with("суд")), ("UTF-8", true));
    }

    #[test]
    fn xml_in_utf_16_needs_no_mark() {
        let text = "<?xml version='1.0' encoding='UTF-16'?><urlset>Æ</urlset>";
        assert_eq!(decode(&utf_16le(text), None).text, text);
        assert_eq!(decode(&utf_16be(text), None).text, text);
    }

    #[test]
    fn bytes_that_say_nothing_are_utf_8_or_guessed() {
        let cases = [
            ("Bundesgerichtshof: Entscheidungen für Fälle ohne Bücher – Straße, Müller, größer", UTF_8),
            ("Le tribunal a jugé que la décision était fondée; l’arrêt a été publié à Genève", WINDOWS_1252),
            // What is Russian in KOI8-R is the same in KOI8-U.
            ("Верховный суд Российской Федерации опубликовал решение по делу о защите прав", KOI8_U),
            ("最高裁判所は本日、次の判決を公開しました。判例集をご覧ください。", SHIFT_JIS),
        ];
        for (text, encoding) in cases {
            let decoded = decode(&encoded(text, encoding), Some("text/html"));
            assert_eq!((decoded.text.as_str(), decoded.charset), (text, encoding.name()));
        }
    }

    #[test]
    fn bytes_that_mean_nothing_are_replaced_and_told() {
        let decoded = decode(b"caf\xE9", Some("text/html; charset=utf-8"));
        assert_eq!((decoded.text.as_str(), decoded.had_errors), ("caf\u{FFFD}", true));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048), declared in proptest::option::of(".{0,40}")) {
            decode(&bytes, declared.as_deref());
        }

        #[test]
        fn no_markup_makes_it_panic(text in "(<meta|<!--|-->|<\\?xml|encoding|charset|content|http-equiv|=|'|\"|>| |/|utf-16|koi8-r|\u{e9}){0,60}") {
            decode(text.as_bytes(), None);
        }

        #[test]
        fn text_in_a_declared_encoding_comes_back(
            text in ".*",
            encoding in proptest::sample::select(vec![UTF_8, WINDOWS_1252, SHIFT_JIS, ISO_8859_2, KOI8_R, GB18030, EUC_KR, BIG5]),
        ) {
            let (bytes, _, unmappable) = encoding.encode(&text);
            prop_assume!(!unmappable && Encoding::for_bom(&bytes).is_none());
            // Encoders map some characters onto a near one, which comes back instead.
            let (canonical, _) = encoding.decode_without_bom_handling(&bytes);
            let decoded = decode(&bytes, Some(&format!("text/html; charset={}", encoding.name())));
            prop_assert_eq!(decoded.text, canonical.into_owned());
        }

        #[test]
        fn unicode_text_comes_back_whole(text in any::<String>()) {
            prop_assume!(!text.starts_with('\u{FEFF}'));
            let decoded = decode(text.as_bytes(), Some("text/plain; charset=utf-8"));
            prop_assert_eq!(&decoded.text, &text);
            prop_assert!(!decoded.had_errors);
            let decoded = decode(&utf_16le(&format!("\u{FEFF}{text}")), None);
            prop_assert_eq!(decoded.text, text);
        }
    }
}
