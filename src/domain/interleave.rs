//! Sorted streams as one sorted stream. A stream is opened when its first id is due and let go at its
//! end, so that only those are in memory whose ids overlap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::RowId;

/// The items of all sources in the order of their ids; ends after the first error.
pub struct Interleaved<P, T, I, F> {
    slots: Vec<Slot<P, T, I>>,
    /// The id that each source is at, and the source.
    due: BinaryHeap<Reverse<(RowId, usize)>>,
    open: F,
}

enum Slot<P, T, I> {
    Closed(P),
    Open { head: T, rest: I },
    Ended,
}

impl<P, T, I, E, F> Interleaved<P, T, I, F>
where
    I: Iterator<Item = Result<(RowId, T), E>>,
    F: FnMut(P) -> Result<I, E>,
{
    /// Interleaves `sources`, each given with its first id and opened by `open`.
    pub fn new(sources: impl IntoIterator<Item = (RowId, P)>, open: F) -> Self {
        let (mut slots, mut due) = (Vec::new(), BinaryHeap::new());
        for (first, source) in sources {
            due.push(Reverse((first, slots.len())));
            slots.push(Slot::Closed(source));
        }
        Interleaved { slots, due, open }
    }

    fn advance(&mut self) -> Result<Option<(RowId, T)>, E> {
        while let Some(Reverse((id, at))) = self.due.pop() {
            match std::mem::replace(&mut self.slots[at], Slot::Ended) {
                Slot::Closed(source) => {
                    let rest = (self.open)(source)?;
                    self.step(at, rest)?;
                }
                Slot::Open { head, rest } => {
                    self.step(at, rest)?;
                    return Ok(Some((id, head)));
                }
                Slot::Ended => {}
            }
        }
        Ok(None)
    }

    fn step(&mut self, at: usize, mut rest: I) -> Result<(), E> {
        if let Some((id, head)) = rest.next().transpose()? {
            self.due.push(Reverse((id, at)));
            self.slots[at] = Slot::Open { head, rest };
        }
        Ok(())
    }
}

impl<P, T, I, E, F> Iterator for Interleaved<P, T, I, F>
where
    I: Iterator<Item = Result<(RowId, T), E>>,
    F: FnMut(P) -> Result<I, E>,
{
    type Item = Result<(RowId, T), E>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            self.due.clear();
            self.slots.clear();
        }
        next.transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    type Item = Result<(RowId, &'static str), String>;

    fn items(ids: &[i128], name: &'static str) -> Vec<Item> {
        ids.iter().map(|id| Ok((RowId::Integer(*id), name))).collect()
    }

    #[test]
    fn ids_come_in_order_and_a_stream_is_open_only_where_it_is_due() {
        let sources = [("c", vec![20, 21]), ("a", vec![1, 5, 9]), ("b", vec![4, 6])];
        let opened = RefCell::new(Vec::new());
        let firsts = sources.iter().map(|(name, ids)| (RowId::Integer(ids[0]), (*name, ids)));
        let mut merged = Interleaved::new(firsts, |(name, ids)| {
            opened.borrow_mut().push(name);
            Ok(items(ids, name).into_iter())
        });
        let first: Vec<Item> = merged.by_ref().take(5).collect();
        let expected = [(1, "a"), (4, "b"), (5, "a"), (6, "b"), (9, "a")];
        assert_eq!(first, expected.map(|(id, name)| Ok((RowId::Integer(id), name))));
        assert_eq!(*opened.borrow(), ["a", "b"]);
        assert_eq!(merged.count(), 2);
    }

    #[test]
    fn the_first_error_is_the_end() {
        let sources = [(RowId::Integer(1), true), (RowId::Integer(3), false)];
        let mut merged = Interleaved::new(sources, |is_whole| {
            let failure = (!is_whole).then(|| Err("torn".to_owned()));
            Ok(items(&[1, 9], "a").into_iter().take(usize::from(is_whole) * 2).chain(failure))
        });
        assert_eq!(merged.next(), Some(Ok((RowId::Integer(1), "a"))));
        assert_eq!(merged.next(), Some(Err("torn".to_owned())));
        assert_eq!(merged.next(), None);
    }
}
