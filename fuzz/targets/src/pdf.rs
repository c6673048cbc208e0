//! PDFs, read in this process as the child process does it.

use std::panic;

use content::{Selection, extract_pdf, normalise, pdf::text_in_this_process};

/// A PDF. That its reader panics is why it has a process of its own, and is nothing that was found.
pub(crate) fn pdf(input: &[u8]) {
    // What a panic says would be all that is seen; libFuzzer's hook would end the process.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let text = panic::catch_unwind(|| text_in_this_process(input));
    panic::set_hook(hook);
    let Ok(Some(text)) = text else { return };
    let selection = Selection::new(&[].into(), &[], &[]).unwrap();
    if let Ok(extraction) = extract_pdf(text, &selection) {
        assert_eq!(normalise(&extraction.text), extraction.text);
    }
}
