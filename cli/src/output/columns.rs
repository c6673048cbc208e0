//! Rows under headings: each column as wide as its widest cell.

/// The heading of a column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heading {
    pub(crate) text: &'static str,
    /// Numbers end where their column does.
    pub(crate) is_number: bool,
}

impl Heading {
    pub(crate) const fn text(text: &'static str) -> Self {
        Self { text, is_number: false }
    }

    pub(crate) const fn number(text: &'static str) -> Self {
        Self { text, is_number: true }
    }
}

/// A line for the headings and one for each row, without spaces at their ends. Rows have a cell for each heading.
pub(crate) fn lines(headings: &[Heading], rows: &[Vec<String>]) -> Vec<String> {
    let titles: Vec<String> = headings.iter().map(|heading| heading.text.to_owned()).collect();
    let all = || std::iter::once(&titles).chain(rows);
    let width =
        |column: usize| all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..headings.len()).map(|column| width(column).unwrap_or_default()).collect();
    all()
        .map(|row| {
            let cells = row.iter().zip(headings).zip(&widths).map(|((cell, heading), width)| {
                if heading.is_number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let headings = [Heading::text("URL"), Heading::number("BYTES"), Heading::text("WHY")];
        let rows = [["https://court.example/ü", "7", ""], ["-", "1234567", "Overlap"]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(
            lines(&headings, &rows),
            [
                "URL                        BYTES  WHY",
                "https://court.example/ü        7",
                "-                        1234567  Overlap",
            ]
        );
        assert_eq!(lines(&headings, &[]), ["URL  BYTES  WHY"]);
    }
}
