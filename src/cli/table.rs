//! Plain tables: columns of words and numbers that fit a terminal of 80 columns.

use std::fmt::Write as _;

use super::console::one_line;

/// How a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Words, cut to so many characters.
    Left(usize),
    /// Numbers.
    Right,
}

/// The rows below their head, columns two spaces apart, no space at a line's end.
pub(super) fn table(sides: &[Side], head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(&head)
        .chain(rows)
        .map(|row| sides.iter().zip(row).map(|(side, cell)| fitted(*side, cell)).collect())
        .collect();
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row: &Vec<String>| row.get(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..sides.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for ((side, width), cell) in sides.iter().zip(&widths).zip(row) {
            let gap = if line.is_empty() { "" } else { "  " };
            let _ = match side {
                Side::Left(_) => write!(line, "{gap}{cell:<width$}"),
                Side::Right => write!(line, "{gap}{cell:>width$}"),
            };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn fitted(side: Side, cell: &str) -> String {
    let shown = one_line(cell);
    match side {
        Side::Left(most) if shown.chars().count() > most => {
            shown.chars().take(most.saturating_sub(2)).chain("..".chars()).collect()
        }
        _ => shown.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_long_words_are_cut() {
        let rows = [
            vec!["a label of a very long name".to_owned(), "5".to_owned(), "1.00".to_owned()],
            vec!["\u{1b}[2J".to_owned(), "1,234".to_owned(), "0.50".to_owned()],
        ];
        let shown =
            table(&[Side::Left(12), Side::Right, Side::Right], &["label", "rows", ""], &rows);
        insta::assert_snapshot!(shown, @r"
        label          rows
        a label of..      5  1.00
        \u{1b}[2J     1,234  0.50
        ");
    }
}
