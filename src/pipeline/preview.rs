//! A look before the run: a few rows asked for, nothing written.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use super::reader::{ReadRow, read_row};
use super::{RunContext, RunError, setup};
use crate::domain::{JobSpec, Position, PositionRange, Reason, Row, RowId, Tokens, Usage};
use crate::input::OrderedInput;
use crate::llm::asker::Asker;
use crate::llm::dialect::StepDown;
use crate::llm::keys::KeyStream;
use crate::llm::prompt::Prompt;
use crate::llm::provider::{Finish, ProviderError, ResponseFormat};
use crate::llm::reply_matcher::{Answer, match_reply};

/// How many rows a preview asks for.
pub const PREVIEW_ROWS: usize = 20;

/// A row of a preview.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviewRow {
    /// Its id.
    pub id: RowId,
    /// The text that the model read.
    pub text: String,
    /// The label's name, or why there is none.
    pub label: Result<String, Reason>,
    /// The known answer, if a column has one.
    pub gold: Option<String>,
}

/// What one call looks like and what came back.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The rows.
    pub rows: Vec<PreviewRow>,
    /// Rows of the whole input.
    pub input_rows: u64,
    /// The system message.
    pub system: String,
    /// The user message.
    pub user: String,
    /// The schema, if one was sent.
    pub schema: Option<serde_json::Value>,
    /// The reply, as it came.
    pub reply: String,
    /// The prompt as counted here.
    pub counted_prompt: Tokens,
    /// The reply as expected here.
    pub counted_answer: Tokens,
    /// What the provider says that the call used.
    pub usage: Option<Usage>,
    /// From sending to the last byte.
    pub took: Duration,
}

/// Asks for the first rows that have a text and no label; writes nothing.
///
/// # Errors
/// Those of [`super::run`] before it starts, and whatever the provider answers instead of a reply.
pub async fn preview(job: &JobSpec, context: RunContext) -> Result<Preview, RunError> {
    let input = OrderedInput::open(&job.input)?;
    let prompt = setup::prompt(job);
    let (rows, gold) = first_rows(&input, job, &prompt)?;
    if rows.is_empty() {
        return Err(RunError::NothingToAsk);
    }
    let keys = KeyStream::new([0; 32], &setup::run_name(context.clock.wall())?);
    let provider = Arc::clone(&context.provider);
    let asker = Asker::new(Arc::clone(&prompt), keys, provider, &job.model);
    let asker = asker.cached_by(&job.budget);
    setup::batch_limits(job, &asker, None)?;
    let mut batch = 0;
    let (call, reply, took) = loop {
        let call = asker.prepare(&rows, batch);
        let sent = context.clock.now();
        match asker.send(&call).await {
            Ok(reply) => break (call, reply, context.clock.now().since(sent)),
            Err(ProviderError::ParameterRefused { parameter, message }) => {
                if asker.step_down(&call, &parameter) == StepDown::Exhausted {
                    return Err(ProviderError::ParameterRefused { parameter, message }.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
        batch += 1;
    };
    let is_cut = reply.finish == Finish::Length;
    let codebook = prompt.codebook();
    let matched = match_reply(&reply.content, is_cut, &call.keys, codebook);
    let shown = rows.into_iter().zip(gold).zip(matched.answers);
    let shown = shown.map(|((row, gold), answer)| PreviewRow {
        id: row.id,
        text: row.text.into(),
        gold,
        label: match answer {
            Answer::Label(label) => Ok(codebook.label(label).name.clone()),
            Answer::Unsure => Err(Reason::Unsure),
            Answer::Unresolved(reason) if reply.finish == Finish::Refused => {
                Err(if reason == Reason::Missing { Reason::Refused } else { reason })
            }
            Answer::Unresolved(reason) => Err(reason),
        },
    });
    Ok(Preview {
        rows: shown.collect(),
        input_rows: input.rows(),
        system: call.request.system.to_string(),
        user: call.request.user.clone(),
        schema: match &call.request.format {
            ResponseFormat::Schema(schema) => Some((**schema).clone()),
            ResponseFormat::JsonObject | ResponseFormat::Text => None,
        },
        reply: reply.content,
        counted_prompt: call.counted,
        counted_answer: call.answer,
        usage: reply.usage,
        took,
    })
}

/// The first rows of the input that the model would be asked about, and what is known of them.
fn first_rows(
    input: &OrderedInput,
    job: &JobSpec,
    prompt: &Prompt,
) -> Result<(Vec<Row>, Vec<Option<String>>), RunError> {
    let wanted = PREVIEW_ROWS.min(job.batch.rows_per_call.get() as usize);
    let everything = PositionRange { first: Position(0), rows: input.rows() };
    let (mut rows, mut gold) = (Vec::new(), Vec::new());
    for chunk in input.read(vec![everything])? {
        let chunk = chunk?;
        let known = job.input.gold.as_deref().and_then(|name| chunk.columns.column_by_name(name));
        let known = known.and_then(|column| cast(column, &DataType::Utf8).ok());
        for (offset, row) in chunk.rows.into_iter().enumerate() {
            let position = Position(chunk.first.0 + offset as u64);
            if let ReadRow::Ask(row) = read_row(row, position, prompt, job.batch.tokens_per_call) {
                let known = known.as_ref().map(|column| column.as_string::<i32>());
                let known = known.filter(|column| column.is_valid(offset));
                gold.push(known.map(|column| column.value(offset).to_owned()));
                rows.push(row);
            }
            if rows.len() == wanted {
                return Ok((rows, gold));
            }
        }
    }
    Ok((rows, gold))
}
