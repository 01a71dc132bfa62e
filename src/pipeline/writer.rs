//! The thread that commits settled parts, so that a slow disk never holds up a reply.
//!
//! It has one part in hand at a time and gives it back when storage fails; when it is tried again
//! is not its to decide.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::open_part::Settled;
use crate::domain::{Clock, PartNumber, Plan};
use crate::output::{OpenOutput, OutputError, PartRecord, Spent};

/// A running writer.
pub(super) struct Writer {
    orders: std::sync::mpsc::Sender<Order>,
    ended: mpsc::UnboundedReceiver<Ended>,
    output: oneshot::Receiver<OpenOutput>,
    /// Parts that it does not have in hand yet, in order.
    waiting: VecDeque<Order>,
    /// The answers and the bytes of the part in hand; `None` if there is none.
    in_hand: Option<(u64, u64)>,
    is_abandoned: bool,
    plan: Plan,
    records: BTreeMap<PartNumber, PartRecord>,
}

/// A part to commit, with what was spent since the last one.
#[derive(Debug)]
struct Order {
    settled: Settled,
    spent: Spent,
}

#[derive(Debug)]
enum Ended {
    Committed(Box<PartRecord>),
    Failed(Box<Order>, OutputError),
}

/// How a commit ended.
#[derive(Debug)]
pub(super) enum Written {
    /// Part and record are durable.
    Committed(Box<PartRecord>),
    /// Storage failed; the part is the next one to be tried.
    Failed(PartNumber, OutputError),
}

/// What a writer leaves.
pub(super) struct Left {
    /// The output; `None` if storage does not answer, or the thread broke off.
    pub(super) output: Option<OpenOutput>,
    /// The planned rows.
    pub(super) plan: Plan,
    /// The parts that stand.
    pub(super) records: BTreeMap<PartNumber, PartRecord>,
}

impl Left {
    /// What no writer has had in its hands.
    pub(super) fn untouched(output: OpenOutput) -> Left {
        let (plan, records) = (output.plan().clone(), output.records().clone());
        Left { output: Some(output), plan, records }
    }
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(super) fn start(mut output: OpenOutput, clock: Arc<dyn Clock>) -> std::io::Result<Writer> {
        let (plan, records) = (output.plan().clone(), output.records().clone());
        let (orders, queue) = std::sync::mpsc::channel::<Order>();
        let (report, ended) = mpsc::unbounded_channel();
        let (give_back, returned) = oneshot::channel();
        std::thread::Builder::new().name("writer".into()).spawn(move || {
            for order in queue {
                let held = output.claim().hold(clock.wall()).map_err(OutputError::from);
                let part = &order.settled.part;
                let committed = held.and_then(|()| output.commit(part, order.spent, clock.wall()));
                let ended = match committed {
                    Ok(record) => Ended::Committed(Box::new(record)),
                    Err(error) => Ended::Failed(Box::new(order), error),
                };
                if report.send(ended).is_err() {
                    break;
                }
            }
            // Nobody waits for it if the run has given up on this storage.
            drop(give_back.send(output));
        })?;
        Ok(Writer {
            orders,
            ended,
            output: returned,
            waiting: VecDeque::new(),
            in_hand: None,
            is_abandoned: false,
            plan,
            records,
        })
    }

    /// Puts a part into the queue, with what was spent since the last one.
    pub(super) fn queue(&mut self, settled: Settled, spent: Spent) {
        self.waiting.push_back(Order { settled, spent });
    }

    /// Hands over the first part of the queue, unless one is in hand; says which.
    pub(super) fn start_next(&mut self) -> Option<PartNumber> {
        if self.is_abandoned || self.in_hand.is_some() {
            return None;
        }
        let order = self.waiting.pop_front()?;
        let number = order.settled.part.number;
        let in_hand = (order.settled.answers, order.settled.bytes);
        // A thread that is gone shows when the output is asked back.
        self.orders.send(order).ok()?;
        self.in_hand = Some(in_hand);
        Some(number)
    }

    /// Commits nothing more: the answers of what is left stand in the journal.
    pub(super) fn abandon(&mut self) {
        self.is_abandoned = true;
    }

    /// How many parts are going to be committed yet.
    pub(super) fn pending(&self) -> usize {
        if self.is_abandoned { 0 } else { self.waiting.len() + usize::from(self.in_hand.is_some()) }
    }

    /// The answers of the parts that are not committed.
    pub(super) fn answers(&self) -> u64 {
        let waiting = self.waiting.iter().map(|order| order.settled.answers);
        waiting.chain(self.in_hand.map(|(answers, _)| answers)).sum()
    }

    /// What the rows of the parts that are not committed take in memory, bytes.
    pub(super) fn bytes(&self) -> u64 {
        let waiting = self.waiting.iter().map(|order| order.settled.bytes);
        waiting.chain(self.in_hand.map(|(_, bytes)| bytes)).sum()
    }

    /// Waits for the commit in hand to end; `None` if the thread is gone.
    pub(super) async fn next_written(&mut self) -> Option<Written> {
        let ended = self.ended.recv().await;
        self.in_hand = None;
        match ended {
            Some(Ended::Committed(record)) => {
                self.records.insert(record.part, (*record).clone());
                Some(Written::Committed(record))
            }
            Some(Ended::Failed(order, error)) => {
                let number = order.settled.part.number;
                self.waiting.push_front(*order);
                Some(Written::Failed(number, error))
            }
            None => {
                self.abandon();
                None
            }
        }
    }

    /// Ends the thread and gives the output back. A commit that is still in hand is not waited for.
    pub(super) async fn finish(self) -> Left {
        let Writer { orders, output, in_hand, plan, records, .. } = self;
        drop(orders);
        let output = if in_hand.is_some() { None } else { output.await.ok() };
        Left { output, plan, records }
    }
}
