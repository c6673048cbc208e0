//! An input of several parts: a line `====` stands between two, so that seeds can be read and written by hand.

use std::borrow::Cow;

const SEPARATOR: &[u8] = b"\n====\n";

/// The first `N` parts; the last has all that is left. Parts that are not there are empty.
pub(crate) fn parts<const N: usize>(input: &[u8]) -> [&[u8]; N] {
    let mut rest = input;
    std::array::from_fn(|number| {
        let at = rest.windows(SEPARATOR.len()).position(|window| window == SEPARATOR);
        match at.filter(|_| number + 1 < N) {
            Some(at) => {
                let part = &rest[..at];
                rest = &rest[at + SEPARATOR.len()..];
                part
            }
            None => std::mem::take(&mut rest),
        }
    })
}

/// [`parts`] as text.
pub(crate) fn texts<const N: usize>(input: &[u8]) -> [Cow<'_, str>; N] {
    parts::<N>(input).map(String::from_utf8_lossy)
}
