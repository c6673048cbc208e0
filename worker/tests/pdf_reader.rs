//! The reader of PDFs in the real program: its limit of memory holds, whatever the allocator had reserved before it.

#![allow(clippy::unwrap_used)]

use content::pdf::{Limits, Program, text};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn the_reader_of_pdfs_gets_as_much_memory_as_it_is_given() {
    let program =
        Program { path: env!("CARGO_BIN_EXE_tipstaff-worker").into(), arguments: vec!["extract-pdf".into()] };
    let limits = Limits { memory: 380 << 20, ..Limits::default() };
    // It is no PDF, which is found out once it is held: in 128 MiB, and what does not fit there in 256 more while it is moved.
    for (bytes, reason) in [(16 * MIB, "UnreadableDocument"), (130 * MIB, "PdfCrashed")] {
        let error = text(&program, &vec![b'x'; bytes], limits).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{bytes} bytes");
    }
}
