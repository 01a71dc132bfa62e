//! `calibrate`: the same rows at several sizes, priced first; which size to take, and the config.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;

use super::arguments::CalibrateArguments;
use super::calibrate_view::{CalibrationFigures, json, price_list, tables};
use super::eval_command::kept_in;
use super::exit_code::ExitCode;
use super::job::job;
use super::progress::Progress;
use super::run_command::{Desk, Failure, Surroundings, settings};
use super::signals::Signal;
use super::summary_view::{Summary, summary};
use super::token_cost::TokenCost;
use super::values::ProgressMode;
use super::{config_edit, config_file, console, engine, environment};
use crate::calibrate::{Calibration, Plan, Sample, choose_size};
use crate::domain::EventSink;
use crate::domain::clock::SystemClock;
use crate::eval::Workspace;
use crate::output::store::{LocalStore, Store as _, put};
use crate::pipeline::{Beside, Estimate, RunContext};
use crate::quality::{Bound, Choice};

/// Why nothing was asked, or nothing written.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("asking these rows costs money and nobody is there to agree; say --yes to go on")]
    NobodyAgreed,
    #[error("nothing was asked")]
    NotAgreed,
    #[error("--write-config needs a config to write to: name one with --config")]
    NoConfig,
    #[error("{} can't be changed; set rows_per_call = {rows} in [batch] by hand", .file.display())]
    NoEdit { file: PathBuf, rows: u32, source: config_edit::NoEdit },
    #[error("{} is no text", .0.display())]
    NoText(PathBuf),
}

/// Asks the sample at every size, or what is left of it, and prints what that comes to.
///
/// # Errors
/// If the settings make no job, the rows can't be used, nobody agrees to the price, the engine has no
/// end to report, or the config can't be written.
pub(super) fn calibrate(arguments: CalibrateArguments) -> Result<ExitCode, Failure> {
    let (settings, config) = settings(arguments.settings, &arguments.config)?;
    let mode = settings.run.progress.unwrap_or_default();
    let config = match (arguments.write_config, config) {
        (true, None) => return Err(Failure::new(ExitCode::Usage, Refused::NoConfig)),
        (_, config) => config,
    };
    let mut job = job(settings, arguments.input, PathBuf::from("answers"), config.as_deref())?;
    job.output.state_folder = environment::state_folder();
    job.budget.price = engine::price(&job, &SystemClock::start())?;
    let gold = job.input.gold.as_deref();
    let sample = Sample::draw(&job, gold, arguments.rows as usize, arguments.seed)?;
    let all = kept_in(&arguments.kept, "calibrate")?;
    let place = Workspace::below(&all, &job, &format!("seed {}", arguments.seed))?;
    let sizes = rising(arguments.sizes);
    let has_gold = gold.is_some();
    let plan = Plan { job: &job, sample: &sample, has_gold, place: &place, sizes: &sizes };
    let price = TokenCost::of(&job);
    agree(&plan, price.as_ref(), arguments.yes)?;

    let desk = Desk::open(&job, mode)?;
    let stop = desk.around.stop.clone();
    let calibrated = desk.see_through(|around| run(&plan, around, mode))?;
    let bound = Bound { max_loss: arguments.max_loss, confidence: arguments.confidence };
    let choice = choose_size(&calibrated.sizes, bound).filter(|_| calibrated.stopped.is_none());
    let figures = CalibrationFigures {
        plan: &plan,
        sizes: &calibrated.sizes,
        choice: choice.as_ref(),
        bound,
        price: price.as_ref(),
        seed: arguments.seed,
    };
    let text = match arguments.kept.json {
        true => json(&figures).to_string() + "\n",
        false => tables(&figures),
    };
    console::data(&text).map_err(|error| Failure::new(ExitCode::Internal, error))?;
    if let (true, Some(config), Some(choice)) = (arguments.write_config, &config, &choice) {
        write_config(config, &figures, choice)?;
    }
    let Some(report) = calibrated.stopped else { return Ok(ExitCode::Done) };
    let ending = Summary {
        run: report,
        accuracy: None,
        cost: None,
        output: place.folder().into(),
        max_unlabelled: job.output.max_unlabelled,
    };
    if mode != ProgressMode::Json {
        console::message(&summary(&ending));
    }
    Ok(ending.exit_code(stop.signal().map(Signal::exit_code)))
}

fn rising(mut sizes: Vec<u32>) -> Vec<NonZeroU32> {
    sizes.sort_unstable();
    sizes.dedup();
    sizes.into_iter().filter_map(NonZeroU32::new).collect()
}

/// Says what is about to be asked, and asks whether it may be, where that costs money.
fn agree(plan: &Plan<'_>, price: Option<&TokenCost>, is_agreed: bool) -> Result<(), Failure> {
    let estimates = plan.estimate()?;
    if estimates.iter().all(|estimate| *estimate == Estimate::default()) {
        return Ok(());
    }
    console::message(&price_list(plan, &estimates, price));
    // A model of one's own costs nothing, and the embedded one asks nobody.
    let host = plan.job.model.host();
    if is_agreed || host.is_empty() || host == "localhost" {
        return Ok(());
    }
    let refused = match console::is_conversation() {
        true if console::is_agreed("ask them?") => return Ok(()),
        true => Refused::NotAgreed,
        false => Refused::NobodyAgreed,
    };
    Err(Failure::new(ExitCode::Usage, refused))
}

/// Runs the sizes one after the other, each with a display of its own.
async fn run(
    plan: &Plan<'_>,
    around: Surroundings,
    mode: ProgressMode,
) -> Result<Calibration, Failure> {
    let (stop, clock) = (around.stop.clone(), Arc::clone(&around.clock));
    let provider = engine::context(plan.job, around)?.provider;
    let shown: Mutex<Option<Arc<Progress>>> = Mutex::new(None);
    let show = |next: Option<Arc<Progress>>| {
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = std::mem::replace(&mut *shown, next) {
            last.finish();
        }
    };
    let calibrated = plan
        .carry_out(|size| {
            let progress = Arc::new(Progress::start(mode, Arc::clone(&clock)));
            show(Some(Arc::clone(&progress)));
            if !matches!(mode, ProgressMode::Json | ProgressMode::None) {
                let rows = if size.get() == 1 { "1 row".into() } else { format!("{size} rows") };
                console::message(&format!("{rows} a call:"));
            }
            let stop = stop.clone();
            RunContext {
                provider: Arc::clone(&provider),
                events: progress as Arc<dyn EventSink>,
                clock: Arc::clone(&clock),
                stop: async move { stop.wait().await }.boxed(),
                takeover: false,
                beside: Beside::default(),
            }
        })
        .await;
    show(None);
    Ok(calibrated?)
}

/// Writes the size into the config, where it is shown to be sound, and what probes are held against.
fn write_config(
    file: &Path,
    figures: &CalibrationFigures<'_>,
    choice: &Choice,
) -> Result<(), Failure> {
    let rows = choice.rows_per_call;
    let Some(size) = figures.sizes.iter().find(|size| size.rows_per_call == rows) else {
        return Ok(());
    };
    let base = figures.sizes.first().map(|size| size.rows_per_call);
    let is_told = choice.stopped_by.is_none_or(|stop| stop.is_too_lossy);
    if Some(rows) == base && !is_told {
        console::message("the config is left as it is: no size is shown to be better or worse yet");
        return Ok(());
    }
    // What a link leads to is changed, not the link.
    let real = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let store = LocalStore::new(real.parent().unwrap_or(Path::new(".")));
    let name = real.file_name().unwrap_or_default().to_string_lossy();
    let unwritable = |error| Failure::new(ExitCode::Usage, error);
    let bytes = store.read(&name).map_err(unwritable)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Failure::new(ExitCode::Usage, Refused::NoText(file.to_owned())))?;
    let no_edit = |source| {
        let file = file.to_owned();
        Failure::new(ExitCode::Usage, Refused::NoEdit { file, rows, source })
    };
    let edited = config_edit::set(text, "batch", "rows_per_call", &rows.to_string());
    let mut edited = edited.map_err(no_edit)?;
    // At the base itself nothing was asked twice, so nothing is known of it.
    if let Some(share) = size.disagreement().filter(|_| Some(rows) != base) {
        let share = format!("{share:.4}");
        let with_share = config_edit::set(&edited, "quality", "probe_baseline", &share);
        let with_share = with_share.map_err(no_edit)?;
        // Nothing is ever written that could not be read again.
        if config_file::parse(&with_share, file).is_ok() {
            edited = with_share;
        }
    }
    if edited.as_bytes() != &*bytes {
        let permissions = std::fs::metadata(&real).map(|found| found.permissions());
        put(&store, &name, edited.as_bytes()).map_err(unwritable)?;
        // Whoever may read the config is as before.
        let kept = permissions.and_then(|kept| std::fs::set_permissions(&real, kept));
        kept.map_err(|error| Failure::new(ExitCode::Usage, error))?;
    }
    console::message(&format!("{} has rows_per_call = {rows}", file.display()));
    Ok(())
}
