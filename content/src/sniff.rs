//! What a body is, going by its first bytes and not by what a server says.

/// The content type that the first bytes of a body speak for; `application/octet-stream` where they speak for none.
pub fn content_type(head: &[u8]) -> &'static str {
    if head.is_empty() {
        return "application/x-empty";
    }
    if let Some(kind) = infer::get(without_leading_space(head)) {
        return kind.mime_type();
    }
    let is_binary = head.iter().any(|byte| matches!(byte, 0..=8 | 11 | 14..=26 | 28..=31));
    let has_wide_mark = head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]);
    match without_leading_space(head).first() {
        _ if is_binary && !has_wide_mark => "application/octet-stream",
        Some(b'{' | b'[') => "application/json",
        _ => "text/plain",
    }
}

/// Without a byte order mark and white space, before which formats of text may begin.
fn without_leading_space(head: &[u8]) -> &[u8] {
    head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_what_it_begins_with() {
        for (head, expected) in [
            (b"<!DOCTYPE html><title>".as_slice(), "text/html"),
            (b"\xef\xbb\xbf \r\n<html lang=en>", "text/html"),
            (b"<?xml version='1.0'?><rss>", "text/xml"),
            (b"%PDF-1.7\n%\xe2\xe3", "application/pdf"),
            (b"\x1f\x8b\x08\x00\x00", "application/gzip"),
            (b"PK\x03\x04\x14\x00\x06", "application/zip"),
            (b"\n {\"a\": 1}", "application/json"),
            (b"[1, 2]", "application/json"),
            (b"Opinions of 2026\n", "text/plain"),
            (b"Caf\xe9 d\xe9cid\xe9", "text/plain"),
            (b"\xff\xfeO\x00p\x00", "text/plain"),
            (b"\x00\x01\x02\x03", "application/octet-stream"),
            (b"", "application/x-empty"),
        ] {
            assert_eq!(content_type(head), expected, "{head:?}");
        }
    }
}
