//! Every setting of a job, once: a field here is a flag, an environment variable and a config key.
//!
//! A section is one table of the config. Nothing is required and nothing has its default yet, so
//! that what was typed, the environment and the file can be laid over each other field by field.

#![allow(rustdoc::bare_urls, reason = "these comments are the help text, read on a terminal")]

use std::path::PathBuf;

use clap::Args;
use toml::de::DeValue;

use super::label_setting::LabelSetting;
use super::section::{Refusal, Section, section};
use super::values::{
    Bytes, Columns, Count, Delimiter, LayoutChoice, ProgressMode, PromptCache, Quote, Reasons,
    Share, Span,
};
use crate::domain::limits::{ChargeRule, Counting, DayWindow, MinuteWindow, OnDailyLimit, Vendor};
use crate::domain::reading::{Encoding, FileFormat, HivePartitioning, IdType};
use crate::domain::spec::{AnswerForm, KeySource, OnDuplicateId, ProviderKind, Vocabulary};
use crate::domain::{Compression, Dollars};

/// A whole number.
type Whole = Count<0, { u64::MAX }>;
/// A whole number of 32 bits.
type Whole32 = Count<0, { u32::MAX as u64 }>;
/// At least one.
type Positive = Count<1, { u64::MAX }>;
/// At least one, 32 bits.
/// A positive number of 32 bits.
pub type Positive32 = Count<1, { u32::MAX as u64 }>;
/// Seconds of a timeout: at most a day.
type Seconds = Count<1, 86_400>;

section! {
    /// What is asked of which column.
    TaskSettings ["", "Task"] {
        /// The column with the rows' id: unique, never null
        ///
        /// "@row" takes the row's number in the input instead. Answers are tied to ids, so choose
        /// one that stays with its row. Example: --id customer_id
        #[arg(env = "BATCHCLASS_ID", value_name = "COLUMN")]
        id: String,

        /// The column to classify, or a template over columns
        ///
        /// Every column that the model reads is paid for, row by row; name only those that help
        /// to decide. Example: --text "{title}: {body}"
        #[arg(env = "BATCHCLASS_TEXT", value_name = "TEMPLATE")]
        text: String,

        /// What the model is told before the labels
        ///
        /// Paid once per call, not per row. Say what the rows are and how to decide between
        /// labels that overlap. Example: --instructions "You classify UK postal addresses."
        #[arg(env = "BATCHCLASS_INSTRUCTIONS", value_name = "TEXT")]
        instructions: String,

        /// A file with the instructions, UTF-8
        ///
        /// Instead of --instructions, for a long text. In the config the path counts from the
        /// config's folder. Example: --instructions-file prompt.md
        #[arg(env = "BATCHCLASS_INSTRUCTIONS_FILE", value_name = "PATH")]
        instructions_file: PathBuf,

        /// A code by which the model may decline a row [default: none]
        ///
        /// A declined row has no label and the reason `unsure`, instead of a guess. It is asked
        /// again only with --retry unsure. Example: --unsure U
        #[arg(env = "BATCHCLASS_UNSURE", value_name = "CODE")]
        unsure: String,

        /// The label for whatever no other label fits [default: none]
        ///
        /// It is a label like the others, with a code of its own; the model is told to give it only
        /// where no other fits. It is added if it is not among the labels.
        /// Example: --none-of-these other
        #[arg(env = "BATCHCLASS_NONE_OF_THESE", value_name = "LABEL")]
        none_of_these: String,
    }
}

section! {
    /// Who answers, and how it is reached.
    ModelSettings ["model", "Model"] {
        /// Who answers: a service, or the embedded scorer (offline, no key)
        ///
        /// `openai` is any service with an OpenAI-compatible chat endpoint, also a local one.
        /// `lexical` compares words; it costs nothing and rehearses a job. No default.
        #[arg(env = "BATCHCLASS_PROVIDER", value_name = "openai|lexical")]
        provider: ProviderKind,

        /// Rows with known labels that the embedded scorer learns from [default: none]
        ///
        /// A file, folder or pattern, as an input; rows are read by the job's own template. Learned
        /// from some hundred rows a label, `lexical` is a baseline that is hard to beat. In the
        /// config the path counts from the config's folder. Example: --fit train.parquet
        #[arg(env = "BATCHCLASS_FIT", value_name = "PATH")]
        fit: PathBuf,

        /// The column of --fit with the known labels [default: the column of --gold]
        ///
        /// Each value is a label's name; rows without one are left out. Example: --fit-label class
        #[arg(env = "BATCHCLASS_FIT_LABEL", value_name = "COLUMN")]
        fit_label: String,

        /// The model's name as the service knows it
        ///
        /// Required with `openai`. Example: --model gpt-4o-mini
        #[arg(long = "model", env = "BATCHCLASS_MODEL", value_name = "NAME")]
        name: String,

        /// The service's address, up to /chat/completions [default: https://api.openai.com/v1]
        ///
        /// A key is only ever sent over https or to this machine.
        /// Example: --base-url http://localhost:8000/v1
        #[arg(env = "BATCHCLASS_BASE_URL", value_name = "URL")]
        base_url: String,

        /// The environment variable that holds the key [default: OPENAI_API_KEY at the default address]
        ///
        /// The key itself stands in no file and no flag. At another address there is no default,
        /// so that a key never reaches a host that it was not meant for; on this machine none is
        /// sent unless a variable is named. "" sends none. Example: --api-key-env GROQ_API_KEY
        #[arg(env = "BATCHCLASS_API_KEY_ENV", value_name = "VARIABLE")]
        api_key_env: String,

        /// The vocabulary that tokens are counted with [default: by the model's name]
        ///
        /// o200k for GPT-4o and later, cl100k for GPT-4 and GPT-3.5. Other models are counted
        /// with o200k and corrected by what the service reports.
        #[arg(env = "BATCHCLASS_VOCABULARY", value_name = "o200k|cl100k")]
        vocabulary: Vocabulary,

        /// The form of the answers [default: array]
        ///
        /// `array` costs 3 tokens a row and a small schema; `object` rules out lost rows where
        /// schemas are free (vLLM, llama.cpp); `lines` needs no schema. A service that refuses
        /// one is asked in the next by itself.
        #[arg(env = "BATCHCLASS_ANSWER_FORM", value_name = "array|object|lines")]
        answer_form: AnswerForm,

        /// What stands for a row in a call [default: random]
        ///
        /// `random` sends three fresh digits, one token; the id never leaves this machine. `id`
        /// sends the row's own id, which costs more tokens and tells the service what it is.
        #[arg(env = "BATCHCLASS_KEY", value_name = "random|id")]
        key: KeySource,

        /// How much a reasoning model thinks [default: the least that it takes]
        ///
        /// Hidden reasoning is billed like an answer and is often most of the bill.
        /// Example: --reasoning-effort low
        #[arg(env = "BATCHCLASS_REASONING_EFFORT", value_name = "EFFORT")]
        reasoning_effort: String,

        /// Most tokens that one reply may have, reasoning included [default: 16384]
        ///
        /// An upper bound for the room that a call asks for, which is tight by itself, since
        /// services charge it on admission.
        #[arg(env = "BATCHCLASS_MAX_OUTPUT_TOKENS", value_name = "TOKENS")]
        max_output_tokens: Positive32,

        /// Whether the service's prompt cache is used where writing it is charged [default: auto]
        ///
        /// `auto` tells OpenAI and Azure to write the fixed part of the prompt alone, where reading it
        /// back saves more, and nothing otherwise. `off` tells any service to write nothing, also one
        /// behind a gateway. Where writing costs nothing extra, nothing is sent.
        #[arg(env = "BATCHCLASS_PROMPT_CACHE", value_name = "auto|off")]
        prompt_cache: PromptCache,

        /// Longest wait for a connection, seconds [default: 10]
        ///
        /// Raise it behind a slow proxy.
        #[arg(env = "BATCHCLASS_CONNECT_TIMEOUT_S", value_name = "SECONDS")]
        connect_timeout_s: Seconds,

        /// Longest silence within a reply, seconds [default: 120]
        ///
        /// Replies are not streamed: a model that thinks for long before it answers needs more.
        #[arg(env = "BATCHCLASS_READ_TIMEOUT_S", value_name = "SECONDS")]
        read_timeout_s: Seconds,

        /// Longest wait for a whole reply, seconds [default: 300]
        ///
        /// A call that is given up on may still be billed; keep it above the slowest reply.
        #[arg(env = "BATCHCLASS_REPLY_TIMEOUT_S", value_name = "SECONDS")]
        reply_timeout_s: Seconds,
    }
}

section! {
    /// How fast the model may be asked.
    LimitSettings ["limits", "Limits"] {
        /// Tokens in any 60 seconds, prompt and reply together; 0 = no limit [default: 0]
        ///
        /// Take it from your account's limits page. Calls are paced so that no rolling minute
        /// passes it; how many run at once follows from it. Example: --tokens-per-minute 200000
        #[arg(env = "BATCHCLASS_TOKENS_PER_MINUTE", value_name = "TOKENS")]
        tokens_per_minute: Whole32,

        /// Requests in any 60 seconds; 0 = no limit [default: 0]
        ///
        /// Seldom the limit that binds, since a call carries many rows.
        #[arg(env = "BATCHCLASS_REQUESTS_PER_MINUTE", value_name = "REQUESTS")]
        requests_per_minute: Whole32,

        /// Input tokens a minute, where they are limited by themselves; 0 = no limit [default: 0]
        ///
        /// Anthropic's ITPM, for one. It holds beside tokens_per_minute.
        #[arg(env = "BATCHCLASS_INPUT_TOKENS_PER_MINUTE", value_name = "TOKENS")]
        input_tokens_per_minute: Whole32,

        /// Output tokens a minute, where they are limited by themselves; 0 = no limit [default: 0]
        ///
        /// Anthropic's OTPM, for one. Hidden reasoning counts as output.
        #[arg(env = "BATCHCLASS_OUTPUT_TOKENS_PER_MINUTE", value_name = "TOKENS")]
        output_tokens_per_minute: Whole32,

        /// Requests a day; 0 = no limit [default: 0]
        ///
        /// With 10,000 a day and 50 rows a call a job gets 500,000 rows done in a day.
        #[arg(env = "BATCHCLASS_REQUESTS_PER_DAY", value_name = "REQUESTS")]
        requests_per_day: Whole,

        /// Tokens a day; 0 = no limit [default: 0]
        ///
        /// What earlier runs of the same output used counts, also of runs that crashed.
        #[arg(env = "BATCHCLASS_TOKENS_PER_DAY", value_name = "TOKENS")]
        tokens_per_day: Whole,

        /// Most money that the job may cost over its whole life, US dollars [default: none]
        ///
        /// Each call reserves the most that it can cost, so the bound is never passed, not by a cent.
        /// At the bound the run ends with exit code 5; with a higher one the same command goes on.
        /// It needs prices: the table's, or those of the table `price`. Example: --max-cost 12.50
        #[arg(env = "BATCHCLASS_MAX_COST", value_name = "DOLLARS")]
        max_cost: Dollars,

        /// Most tokens that the job may be billed for over its whole life [default: none]
        ///
        /// Prompts and replies together, of all runs of the same output. It works like --max-cost and
        /// needs no prices. Example: --max-tokens 3000000
        #[arg(env = "BATCHCLASS_MAX_TOKENS", value_name = "TOKENS")]
        max_tokens: Positive,

        /// What happens when a day's limit is used up [default: wait]
        ///
        /// `wait` says when there is room again and goes on then; `stop` ends the run with exit
        /// code 5, and the same command goes on another day.
        #[arg(env = "BATCHCLASS_ON_DAILY_LIMIT", value_name = "wait|stop")]
        on_daily_limit: OnDailyLimit,

        /// Whose rules the limits follow [default: by the address]
        ///
        /// What a call counts differs from provider to provider; docs/pacing.md has the table.
        /// Name the one behind a gateway. One of openai, azure, anthropic, gemini, groq, mistral,
        /// deepseek, together, cerebras, openrouter, local, other.
        #[arg(env = "BATCHCLASS_VENDOR", value_name = "NAME")]
        vendor: Vendor,

        /// What a call counts towards limits on tokens [default: the vendor's]
        ///
        /// `usage`: prompt and reply; `max`: that, but at least the room for the reply; `sum`:
        /// prompt and room for the reply; `input`: the prompt alone.
        #[arg(env = "BATCHCLASS_CHARGE_RULE", value_name = "usage|max|sum|input")]
        charge_rule: ChargeRule,

        /// Whether prompt tokens from the provider's cache count [default: the vendor's]
        ///
        /// What is not counted is learned from what replies report.
        #[arg(env = "BATCHCLASS_CACHED_TOKENS", value_name = "counted|free")]
        cached_tokens: Counting,

        /// Whether the tokens of a call that is answered 429 count [default: the vendor's]
        ///
        /// Its request counts in any case.
        #[arg(env = "BATCHCLASS_REFUSED_CALLS", value_name = "counted|free")]
        refused_calls: Counting,

        /// What a minute is to the provider [default: the vendor's]
        ///
        /// `rolling`: any 60 seconds, safe for all; `fixed`: a counter that begins anew each
        /// minute; `bucket`: one that fills up steadily, which suits large calls.
        #[arg(env = "BATCHCLASS_MINUTE_WINDOW", value_name = "rolling|fixed|bucket")]
        minute_window: MinuteWindow,

        /// What a day is to the provider [default: the vendor's]
        ///
        /// `rolling`: any 24 hours, safe for all; `utc` and `pacific`: from midnight to midnight.
        #[arg(env = "BATCHCLASS_DAY_WINDOW", value_name = "rolling|utc|pacific")]
        day_window: DayWindow,

        /// Seconds over which a minute's limits are enforced as well; 0 = none [default: the vendor's]
        ///
        /// With 10 no ten seconds take more than a sixth of each limit a minute, and no call is
        /// larger than that. Example: --slice-s 10
        #[arg(env = "BATCHCLASS_SLICE_S", value_name = "SECONDS")]
        slice_s: Count<0, 59>,
    }
}

section! {
    /// What tokens cost, where the table of prices is not right.
    PriceSettings ["price", "Price"] {
        /// A million tokens of requests, US dollars [default: the table's]
        ///
        /// The table knows the models of 47 services by their addresses; behind a gateway, or with
        /// prices of your own, give this and --price-out. Example: --price-in 0.15
        #[arg(id = "price_input", long = "price-in", env = "BATCHCLASS_PRICE_IN", value_name = "DOLLARS")]
        input: Dollars,

        /// A million tokens that come from the service's cache [default: the table's, else as others]
        ///
        /// Example: --price-cached-in 0.075
        #[arg(
            id = "price_cached_input",
            long = "price-cached-in",
            env = "BATCHCLASS_PRICE_CACHED_IN",
            value_name = "DOLLARS"
        )]
        cached_input: Dollars,

        /// A million tokens that go into the service's cache [default: the table's, else as others]
        ///
        /// Example: --price-cache-write 0.25
        #[arg(
            id = "price_cache_write",
            long = "price-cache-write",
            env = "BATCHCLASS_PRICE_CACHE_WRITE",
            value_name = "DOLLARS"
        )]
        cache_write: Dollars,

        /// A million tokens of replies, hidden reasoning included [default: the table's]
        ///
        /// Example: --price-out 0.60
        #[arg(id = "price_output", long = "price-out", env = "BATCHCLASS_PRICE_OUT", value_name = "DOLLARS")]
        output: Dollars,
    }
}

section! {
    /// How rows are packed into calls.
    BatchSettings ["batch", "Packing"] {
        /// Most rows in one call, 1 to 900 [default: 50]
        ///
        /// The fixed prompt is paid once per call: with 700 prompt tokens a row costs 60 tokens
        /// at 20 rows a call, 37 at 50 and 30 at 100. Weak models err more in long batches.
        #[arg(env = "BATCHCLASS_ROWS_PER_CALL", value_name = "ROWS")]
        rows_per_call: Count<1, 900>,

        /// Most tokens of one call, prompt and expected answer [default: 8000]
        ///
        /// Closes a batch of long rows before it is full. A row that is longer by itself is left
        /// without a label, reason `too_long`.
        #[arg(env = "BATCHCLASS_TOKENS_PER_CALL", value_name = "TOKENS")]
        tokens_per_call: Positive32,

        /// How often a row is asked, over all runs [default: 3]
        ///
        /// A row that replies keep leaving out is paid for each time; then it is written without
        /// a label and with the reason.
        #[arg(env = "BATCHCLASS_MAX_ATTEMPTS", value_name = "TIMES")]
        max_attempts: Count<1, 1000>,

        /// How many distinct texts are remembered, so that equal ones are asked once [default: 200000]
        ///
        /// About 60 bytes of memory each. 0 asks every row for itself.
        #[arg(env = "BATCHCLASS_DEDUPE_TEXTS", value_name = "TEXTS")]
        dedupe_texts: Count<0, 100_000_000>,

        /// Whether rows that speak to the model are asked apart from others [default: true]
        ///
        /// A text that holds keys with codes, JSON of an answer, or orders such as "ignore the
        /// other rows" could steer its neighbours' labels. Such a row is asked alone, which costs
        /// a whole prompt; of ordinary texts hardly one in 10,000 is taken for one. With many of
        /// them, as in a collection of prompts, they share calls with each other.
        #[arg(env = "BATCHCLASS_ISOLATE", value_name = "true|false")]
        isolate: bool,
    }
}

section! {
    /// How labels are watched while a run goes on.
    QualitySettings ["quality", "Quality"] {
        /// Share of rows asked a second time, to see whether labels hold; 0 = none [default: 0.005]
        ///
        /// In another call, at another place; more of the first 20,000 rows, so that the share of
        /// rows that are labelled otherwise is known early. It only measures: no label changes. A
        /// probe is paid like any row. Example: --probe 0.01
        #[arg(env = "BATCHCLASS_PROBE", value_name = "SHARE")]
        probe: Share,

        /// How much more they may disagree than at calibration, a share [default: 0.05]
        ///
        /// Surely above that, fewer rows share a call (200, 100, 50, 25, 10, 1); surely below it,
        /// more do again, up to --rows-per-call. 1 only watches.
        #[arg(env = "BATCHCLASS_PROBE_MAX", value_name = "SHARE")]
        probe_max: Share,

        /// How much they disagreed at calibration, a share [default: 0]
        ///
        /// `batchclass calibrate` finds it. A model that answers differently each time it is asked
        /// has one above 0, however few rows share a call.
        #[arg(env = "BATCHCLASS_PROBE_BASELINE", value_name = "SHARE")]
        probe_baseline: Share,
    }
}

section! {
    /// How the input is read.
    InputSettings ["input", "Input"] {
        /// A column with labels that stand already [default: none]
        ///
        /// Rows that have a value in it are passed through with it and never asked or paid for.
        #[arg(env = "BATCHCLASS_EXISTING_LABEL", value_name = "COLUMN")]
        existing_label: String,

        /// A column with known answers to measure accuracy by [default: none]
        ///
        /// It is only ever compared with, never sent and never copied into the label.
        #[arg(env = "BATCHCLASS_GOLD", value_name = "COLUMN")]
        gold: String,

        /// The format of all files, whatever their names [default: by the names]
        ///
        /// For names such as `data.txt`. Every file of the input is read so; `.gz` and `.zst` at the
        /// end of a name still mean that it is compressed. Example: --format csv
        #[arg(env = "BATCHCLASS_FORMAT", value_name = "parquet|csv|tsv|ndjson")]
        format: FileFormat,

        /// What stands between the fields of CSV: one character [default: a comma; in TSV a tab]
        ///
        /// \t is a tab. Example: --delimiter ";"
        #[arg(env = "BATCHCLASS_DELIMITER", value_name = "CHARACTER")]
        delimiter: Delimiter,

        /// What encloses a field of CSV or TSV: one character, or `none` [default: "]
        ///
        /// It stands for itself when doubled. With `none` quotes are part of the text.
        #[arg(env = "BATCHCLASS_QUOTE", value_name = "CHARACTER")]
        quote: Quote,

        /// The encoding of text files [default: utf-8]
        ///
        /// windows-1252, latin-1, utf-16, shift_jis and whatever else the web's standard knows. Text
        /// that is not valid in it is refused, not replaced. Example: --encoding windows-1252
        #[arg(env = "BATCHCLASS_ENCODING", value_name = "NAME")]
        encoding: Encoding,

        /// Whether the first row of CSV and TSV names the columns [default: true]
        ///
        /// With `false` they are column_1, column_2 and so on.
        #[arg(env = "BATCHCLASS_HEADER", value_name = "true|false")]
        header: bool,

        /// What the ids of CSV, TSV and NDJSON are [default: auto]
        ///
        /// `auto` takes integers if every id is one in its usual form, else strings, which are in
        /// order by bytes: 10 before 9. `string` takes strings whatever they look like; `integer`
        /// refuses an input with another id and names the row.
        #[arg(env = "BATCHCLASS_ID_TYPE", value_name = "auto|integer|string")]
        id_type: IdType,

        /// Whether folders like `year=2024` below the input are columns [default: auto]
        ///
        /// `auto` takes them as columns where there are some. `true` wants them for every file,
        /// `false` reads the files alone.
        #[arg(env = "BATCHCLASS_HIVE_PARTITIONING", value_name = "auto|true|false")]
        hive_partitioning: HivePartitioning,

        /// What a repeated id does [default: error]
        ///
        /// `error` stops before the first call and names both rows; `first` keeps the row that
        /// stands first.
        #[arg(env = "BATCHCLASS_ON_DUPLICATE_ID", value_name = "error|first")]
        on_duplicate_id: OnDuplicateId,

        /// Most memory for sorting an unsorted input, bytes or like 1GiB [default: 64MiB]
        ///
        /// An input in id order needs none. One that is larger is sorted in --temp-dir; more memory
        /// makes that no faster until all of it fits.
        #[arg(env = "BATCHCLASS_SORT_MEMORY", value_name = "SIZE")]
        sort_memory: Bytes,

        /// The folder for temporary files [default: the system's, $TMPDIR or /tmp]
        ///
        /// An unsorted input that is larger than --sort-memory is sorted there, which takes about
        /// the room of its rows in memory. The files hold the rows' text, can be read by their
        /// owner only, and go when the job is done; until then a rerun finds them there. In the
        /// config the path counts from the config's folder. Example: --temp-dir /data/tmp
        #[arg(env = "BATCHCLASS_TEMP_DIR", value_name = "PATH")]
        temp_dir: PathBuf,
    }
}

section! {
    /// What is written.
    OutputSettings ["output", "Output"] {
        /// The input's columns that go to the output, in this order [default: all]
        ///
        /// The id's column goes along even if it is not named; "" takes no other. Columns that
        /// neither go along nor are needed are not read. Where the text is left out, parts hold its
        /// hash, so that a text that changes later is seen. Names with commas: as a list in the
        /// config. Example: --columns id,city,price
        #[arg(env = "BATCHCLASS_COLUMNS", value_name = "COLUMNS")]
        columns: Columns,

        /// Rows in each numbered Parquet part [default: 50000]
        ///
        /// Of wide rows, over 670 bytes each, the default is fewer: as many as take 32 MiB in
        /// memory, since a part is held there as a whole, encoded beside it.
        /// In object storage and on FUSE mounts the default is about a minute's worth of
        /// tokens_per_minute, since a lost machine loses at most one part's answers there. It holds
        /// for rows that are planned from now on; parts that are planned already stay as they are.
        #[arg(env = "BATCHCLASS_ROWS_PER_PART", value_name = "ROWS")]
        rows_per_part: Positive32,

        /// How parts are compressed [default: zstd(1)]
        ///
        /// `zstd`, `gzip` and `brotli` take a level: higher is smaller and slower. `snappy` and
        /// `lz4` are fast and larger; `none` is for tools that read nothing else. What stands stays
        /// as it is. Example: --compression "zstd(9)"
        #[arg(env = "BATCHCLASS_COMPRESSION", value_name = "CODEC")]
        compression: Compression,

        /// Most rows in a row group of a part [default: 131072]
        ///
        /// Readers skip row groups by their ids and share them out among threads; smaller ones are
        /// skipped better and compress worse. A row group ends at 32 MiB of rows in any case.
        #[arg(env = "BATCHCLASS_ROW_GROUP_ROWS", value_name = "ROWS")]
        row_group_rows: Positive32,

        /// Whether missing labels are filled in place or beside [default: auto]
        ///
        /// `replace` rewrites a part whose missing labels come later; `append` never changes what
        /// stands and writes further files, `part-000001-r01.parquet`, for storage that replaces,
        /// renames and deletes nothing (a bucket mounted with Mountpoint, s3fs, rclone or
        /// gcsfuse). `auto` goes by the file system. An output stays as it was begun.
        #[arg(env = "BATCHCLASS_LAYOUT", value_name = "auto|replace|append")]
        layout: LayoutChoice,

        /// The name of the label's column [default: label]
        ///
        /// The column beside it that says why a label is missing adds `_reason`.
        #[arg(env = "BATCHCLASS_LABEL_COLUMN", value_name = "COLUMN")]
        label_column: String,

        /// Rows that may lack a label in a run that counts as a success [default: 0]
        ///
        /// With more the exit code is 3 and `_SUCCESS` is not written.
        #[arg(env = "BATCHCLASS_MAX_UNLABELLED", value_name = "ROWS")]
        max_unlabelled: Whole,

        /// Reasons for which rows are asked again although they usually are not [default: none]
        ///
        /// Rows that were missing or cut are asked again by every run; refused, too long and
        /// declined ones only when named here, so that a nightly job doesn't pay for the same
        /// refusal every night. Example: --retry refused,unsure
        #[arg(env = "BATCHCLASS_RETRY", value_name = "REASONS")]
        retry: Reasons,

        /// Where journals of paid answers are kept [default: beside the parts, else the state folder]
        ///
        /// A journal holds answers until their part is written. On a disk it stands in
        /// OUT/_batchclass/journal, else in $XDG_STATE_HOME/batchclass or
        /// ~/.local/state/batchclass. Name a folder that outlives the machine where those don't, as
        /// in a container; each output has its own folder in it. Example: --journal-folder /data/j
        #[arg(env = "BATCHCLASS_JOURNAL_FOLDER", value_name = "PATH")]
        journal_folder: PathBuf,
    }
}

section! {
    /// Where object storage is.
    StorageSettings ["storage", "Object storage"] {
        /// The address of an S3-compatible server [default: the service itself]
        ///
        /// For s3:// (and gs://, az://) inputs and outputs; AWS_ENDPOINT_URL does the same. Keys
        /// come from the environment or a profile, never from here.
        /// Example: --endpoint-url http://localhost:9000
        #[arg(env = "BATCHCLASS_ENDPOINT_URL", value_name = "URL")]
        endpoint_url: String,

        /// The bucket's region [default: AWS_REGION, else the profile's, else us-east-1]
        ///
        /// Example: --region eu-west-1
        #[arg(env = "BATCHCLASS_REGION", value_name = "REGION")]
        region: String,
    }
}

section! {
    /// How far a run goes and what it shows.
    RunSettings ["run", "Run"] {
        /// Classify only the first rows in id order [default: all]
        ///
        /// To look at a thousand labels before paying for millions: a later run with a higher
        /// limit, or none, goes on from there. Example: --limit 1000
        #[arg(env = "BATCHCLASS_LIMIT", value_name = "ROWS")]
        limit: Positive,

        /// Longest time of nothing but failures before the run ends [default: 30m]
        ///
        /// The run backs off and tries again until then; afterwards the same command resumes it.
        #[arg(env = "BATCHCLASS_GIVE_UP_AFTER", value_name = "TIME")]
        give_up_after: Span,

        /// How progress is shown on stderr [default: auto]
        ///
        /// `auto` draws a bar on a terminal and prints a line every 10 seconds elsewhere; `json`
        /// prints one JSON line per event.
        #[arg(env = "BATCHCLASS_PROGRESS", value_name = "auto|bar|plain|json|none")]
        progress: ProgressMode,
    }
}

/// Every setting of a job, from one source or from several laid over each other.
#[derive(Args, Clone, Debug, Default)]
pub struct Settings {
    /// What is asked of which column: the top of the config.
    #[command(flatten)]
    pub task: TaskSettings,

    /// A label, with what it covers; repeat it for each label
    ///
    /// In the config `[[labels]]` also takes a code and examples. Labels given here replace the
    /// config's. The variable takes one label a line.
    /// Example: --label "Rural Fringe=farms and hamlets" --label "City Flats"
    #[arg(
        long = "label",
        env = "BATCHCLASS_LABEL",
        hide_env = true,
        help_heading = "Task",
        value_name = "NAME[=DESCRIPTION]",
        value_delimiter = '\n',
        value_parser = LabelSetting::parse
    )]
    pub labels: Vec<LabelSetting>,

    /// `[model]`.
    #[command(flatten)]
    pub model: ModelSettings,
    /// `[limits]`.
    #[command(flatten)]
    pub limits: LimitSettings,
    /// `[price]`.
    #[command(flatten)]
    pub price: PriceSettings,
    /// `[batch]`.
    #[command(flatten)]
    pub batch: BatchSettings,
    /// `[quality]`.
    #[command(flatten)]
    pub quality: QualitySettings,
    /// `[input]`.
    #[command(flatten)]
    pub input: InputSettings,
    /// `[output]`.
    #[command(flatten)]
    pub output: OutputSettings,
    /// `[storage]`.
    #[command(flatten)]
    pub storage: StorageSettings,
    /// `[run]`.
    #[command(flatten)]
    pub run: RunSettings,
}

impl Settings {
    /// The config's tables and their keys, the top of the file first.
    pub const TABLES: [(&'static str, &'static [&'static str]); 10] = [
        (TaskSettings::TABLE, TaskSettings::KEYS),
        (ModelSettings::TABLE, ModelSettings::KEYS),
        (LimitSettings::TABLE, LimitSettings::KEYS),
        (PriceSettings::TABLE, PriceSettings::KEYS),
        (BatchSettings::TABLE, BatchSettings::KEYS),
        (QualitySettings::TABLE, QualitySettings::KEYS),
        (InputSettings::TABLE, InputSettings::KEYS),
        (OutputSettings::TABLE, OutputSettings::KEYS),
        (StorageSettings::TABLE, StorageSettings::KEYS),
        (RunSettings::TABLE, RunSettings::KEYS),
    ];

    /// Sets `key` in `table` to a value of the config.
    ///
    /// # Errors
    /// If there is no such key in the table, or the value is not what it wants.
    pub fn set(&mut self, table: &str, key: &str, value: &DeValue<'_>) -> Result<(), Refusal> {
        match table {
            TaskSettings::TABLE => self.task.set(key, value),
            ModelSettings::TABLE => self.model.set(key, value),
            LimitSettings::TABLE => self.limits.set(key, value),
            PriceSettings::TABLE => self.price.set(key, value),
            BatchSettings::TABLE => self.batch.set(key, value),
            QualitySettings::TABLE => self.quality.set(key, value),
            InputSettings::TABLE => self.input.set(key, value),
            OutputSettings::TABLE => self.output.set(key, value),
            StorageSettings::TABLE => self.storage.set(key, value),
            RunSettings::TABLE => self.run.set(key, value),
            _ => Err(Refusal::UnknownKey),
        }
    }

    /// These settings, and `lower`'s where nothing is set here. Labels and instructions are
    /// replaced as a whole, however they are given.
    pub fn over(self, mut lower: Settings) -> Settings {
        if self.task.instructions.is_some() || self.task.instructions_file.is_some() {
            lower.task.instructions = None;
            lower.task.instructions_file = None;
        }
        Settings {
            task: self.task.over(lower.task),
            labels: if self.labels.is_empty() { lower.labels } else { self.labels },
            model: self.model.over(lower.model),
            limits: self.limits.over(lower.limits),
            price: self.price.over(lower.price),
            batch: self.batch.over(lower.batch),
            quality: self.quality.over(lower.quality),
            input: self.input.over(lower.input),
            output: self.output.over(lower.output),
            storage: self.storage.over(lower.storage),
            run: self.run.over(lower.run),
        }
    }
}
