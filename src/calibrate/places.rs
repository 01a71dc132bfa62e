//! Where each row stood in the call that answered it.
//!
//! Heard while the run goes on and kept beside its answers. A run that was killed hears its journaled
//! replies again; a row whose place is lost all the same is left out of what is told by place.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::domain::RowId;
use crate::llm::reply_matcher::Answer;
use crate::pipeline::AnswerSink;

/// The version of the file.
const VERSION: u32 = 1;

/// A row's place in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// From 0.
    pub(super) place: u32,
    /// Rows of the call.
    pub(super) of: u32,
}

/// Places by row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places(BTreeMap<i64, Place>);

/// Hears the places.
#[derive(Debug, Default)]
pub(super) struct PlaceKeeper(Mutex<Places>);

/// The file: a row's id, its place and the rows of its call.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    rows: Vec<(i64, u32, u32)>,
}

impl Places {
    /// Reads what [`Places::encode`] wrote; of anything else nothing is known.
    pub(super) fn decode(bytes: &[u8]) -> Places {
        let kept = serde_json::from_slice::<Kept>(bytes).ok();
        let rows = kept.filter(|kept| kept.version == VERSION).map(|kept| kept.rows);
        let rows = rows.unwrap_or_default().into_iter();
        Places(rows.map(|(id, place, of)| (id, Place { place, of })).collect())
    }

    /// The bytes of the file.
    pub(super) fn encode(&self) -> Vec<u8> {
        let rows = self.0.iter().map(|(id, it)| (*id, it.place, it.of)).collect();
        // A struct of numbers always has a JSON form.
        serde_json::to_vec(&Kept { version: VERSION, rows }).unwrap_or_default()
    }

    /// Where this row stood, if that is known.
    pub(super) fn of(&self, id: &RowId) -> Option<Place> {
        self.0.get(&number(id)?).copied()
    }

    /// Rows in a call, on an average over the calls that answered; `None` if nothing is known.
    pub(super) fn mean_rows(&self) -> Option<f64> {
        let calls: f64 = self.0.values().map(|it| 1.0 / f64::from(it.of.max(1))).sum();
        (calls > 0.0).then(|| self.0.len() as f64 / calls)
    }
}

impl PlaceKeeper {
    /// A keeper that knows `places` already.
    pub(super) fn knowing(places: Places) -> PlaceKeeper {
        PlaceKeeper(Mutex::new(places))
    }

    /// What it has heard.
    pub(super) fn places(&self) -> Places {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl AnswerSink for PlaceKeeper {
    fn replied(&self, rows: Vec<(RowId, Answer)>) {
        let of = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        let places = &mut self.0.lock().unwrap_or_else(PoisonError::into_inner).0;
        for ((id, answer), place) in rows.into_iter().zip(0..) {
            let Some(id) = number(&id) else { continue };
            let is_answered = !matches!(answer, Answer::Unresolved(_));
            // One that no call answers has the place of the first that was to.
            if is_answered || !places.contains_key(&id) {
                places.insert(id, Place { place, of });
            }
        }
    }
}

/// The sample's ids are integers.
fn number(id: &RowId) -> Option<i64> {
    match id {
        RowId::Integer(id) => i64::try_from(*id).ok(),
        RowId::Text(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{LabelIndex, Reason};

    const LABEL: Answer = Answer::Label(LabelIndex(0));
    const MISSING: Answer = Answer::Unresolved(Reason::Missing);

    fn reply(ids: &[(i128, Answer)]) -> Vec<(RowId, Answer)> {
        ids.iter().map(|(id, answer)| (RowId::Integer(*id), *answer)).collect()
    }

    #[test]
    fn a_row_has_the_place_of_the_call_that_answered_it() {
        let keeper = PlaceKeeper::default();
        keeper.replied(reply(&[(7, LABEL), (8, MISSING), (9, LABEL)]));
        keeper.replied(reply(&[(8, LABEL)]));
        keeper.replied(reply(&[(7, MISSING)]));
        let places = keeper.places();
        let place = |id| places.of(&RowId::Integer(id)).map(|it| (it.place, it.of));
        assert_eq!((place(7), place(8), place(9)), (Some((0, 3)), Some((0, 1)), Some((2, 3))));
        assert_eq!(place(1), None);
        // Three rows in a call of three and one of one: two thirds and one calls.
        assert_eq!(places.mean_rows().map(|rows| (rows * 100.0).round()), Some(180.0));
    }

    #[test]
    fn places_are_kept_and_what_is_no_such_file_tells_nothing() {
        let keeper = PlaceKeeper::default();
        keeper.replied(reply(&[(7, LABEL), (1 << 62, MISSING)]));
        let places = keeper.places();
        assert_eq!(Places::decode(&places.encode()), places);
        for bytes in [&b""[..], b"{}", br#"{"version":2,"rows":[[7,0,1]]}"#] {
            assert_eq!(Places::decode(bytes), Places::default());
        }
    }
}
