//! The keys of each section: name, what may stand there, what it is for.

use super::Key;

pub(super) const PIPELINE: &[Key] = &[
    ("name", "text", "names the run's folder, its metrics and its served model"),
    ("spine", "text", "the source whose rows are scored"),
    (
        "mode",
        "\"final\" or \"at_once\", final",
        "wait for the watermark, or score at once and correct",
    ),
    (
        "tick",
        "duration, 1s",
        "an epoch of event time: what is learnt in one counts from the next on",
    ),
    ("bundle", "1 to 1000000, none", "ticks that travel together; results do not depend on it"),
    (
        "max_ahead",
        "duration, 1d",
        "a time further than this beyond the wall clock is a dead letter",
    ),
    ("seed", "integer, 0", "of everything random"),
    (
        "ahead",
        "1 to 1000000000, 65536",
        "rows of a source under way while it is ahead of others; results do not depend on it",
    ),
];

pub(super) const CHECKPOINT: &[Key] = &[
    ("enabled", "true or false, true", "whether a run that was cut off goes on"),
    ("interval", "duration, 5s", "how often the state is kept"),
    ("keep", "1 to 1000, 2", "so many states are retained"),
    (
        "store",
        "text, checkpoints",
        "where they are: a folder, relative to the run's, or s3://BUCKET/PREFIX",
    ),
    ("endpoint", "text, none", "a bucket's server, http:// or https://; Amazon's if not given"),
    ("region", "text, none", "a bucket's region; that of the environment if not given"),
];

pub(super) const SOURCE: &[Key] = &[
    ("format", "text, none", "json, csv, parquet or arrow_ipc; by the file's ending if not given"),
    (
        "schema",
        "table of texts",
        "column = type, list<type>, map<type> or vector(length); types are declared, never guessed",
    ),
    ("null", "list of texts, [\"\"]", "CSV: texts that mean NULL"),
    ("timezone", "text, UTC", "of times without one"),
    ("where", "text, none", "rows that count, an expression"),
    ("columns", "table of texts, none", "further columns, name = expression"),
    ("event_time", "text", "the column that says when it happened"),
    ("id", "text, none", "the column that tells rows apart; it orders rows of one time"),
    ("lateness", "duration, 0s", "how far the watermark stands behind the largest time"),
    ("sort", "duration, none", "a replayed file is sorted within this much event time"),
    ("hold", "duration, none", "how long a live source at its end may hold the others back"),
    ("idle_after", "duration, 10s", "a silent partition no longer holds the watermark back"),
    ("until", "\"end\" or \"stopped\", none", "when the source is done"),
];

pub(super) const WINDOW: &[Key] = &[
    (
        "over",
        "text or list of texts, none",
        "the source whose rows it holds, or several; the spine if not given",
    ),
    ("by", "any", "columns of equal rows; or source column = expression over the spine"),
    ("last", "duration, none", "the rows of this much event time"),
    ("rows", "1 to 1000000, none", "the last rows; with `last`, of those the last"),
    ("tumbling", "duration, none", "the bucket of this length so far"),
    ("hopping", "any, none", "the last whole bucket: { size = \"1h\", every = \"15m\" }"),
    ("origin", "text, 1970-01-01T00:00:00Z", "when a bucket of `tumbling` or `hopping` begins"),
    (
        "calendar",
        "\"hour\" or \"day\" or \"week\" or \"month\" or \"quarter\" or \"year\", none",
        "the period so far; weeks begin on Monday",
    ),
    ("timezone", "text, UTC", "whose `calendar`, by its IANA name"),
    ("session", "duration, none", "the rows that follow each other within this, if it is not over"),
    ("half_life", "duration, none", "all rows, with weights that halve in this time"),
    (
        "resolution",
        "duration, none",
        "the tail of `last` moves by steps of this, and lags by up to one",
    ),
    ("offset", "duration, none", "the window as of so long ago"),
    ("exclude", "\"row\" or \"time\", none", "leaves out the row itself, or all rows of its time"),
    (
        "series",
        "any, none",
        "a list of the window as of so many steps ago: { step = \"1d\", count = 7 }",
    ),
    ("secondary", "text, none", "a column: a value for each of its values"),
    ("lifetime", "true or false, false", "all rows since the beginning"),
];

pub(super) const LABEL: &[Key] = &[
    ("over", "text", "the source that brings the labels; its id is that of the spine's row"),
    ("value", "text", "the label, an expression"),
    ("wait", "duration", "how long after the event a label may come"),
    ("otherwise", "any, drop", "what counts when none came: \"drop\" or a number"),
    (
        "settled",
        "true or false, false",
        "labels count when the wait is over: for labels of which one kind comes sooner",
    ),
];

pub(super) const MODEL: &[Key] = &[
    ("label", "text", "the label it learns"),
    ("inputs", "list of texts, [\"features.*\"]", "features, and NAME.margin of another model"),
    (
        "publish",
        "duration, none",
        "how often an online model becomes a version, if it has learnt anything since",
    ),
];

pub(super) const RETRAIN: &[Key] = &[
    (
        "on",
        "list of texts",
        "triggers: \"every 7d\", \"drift.NAME\", \"labels 20000\" (new ones), \"loss above 0.45\"",
    ),
    ("cooldown", "duration, 1d", "but for \"every\", none sooner than this after the last trigger"),
    ("takes", "duration, 0s", "event time that a training is deemed to take in a replay"),
    ("budget", "1 to 1000000, 24", "trainings that may be triggered in a day of event time"),
    (
        "executor",
        "list of texts, in_process",
        "where it is trained: [\"NAME above 500000 rows\", \"in_process\"]",
    ),
];

pub(super) const EXECUTOR: &[Key] =
    &[("fallback", "text, none", "the executor of trainings that cannot be run here")];

pub(super) const TRAINING: &[Key] = &[
    ("last", "duration, none", "labels of this much event time; all if not given"),
    ("max_rows", "1 to 1000000000, 1000000", "the newest rows"),
    ("min_rows", "1 to 1000000000, 1000", "no training with fewer"),
];

pub(super) const PROMOTE: &[Key] = &[
    ("when", "\"not_worse\" or \"always\", not_worse", "what the gate asks"),
    ("by", "\"log_loss\", log_loss", "what is compared"),
    ("margin", "float, 0.002", "the mean difference of the log losses must be below it"),
    ("last", "duration, 7d", "rows labelled this long ago or less are compared"),
    ("min_rows", "1 to 1000000000, 2000", "the gate waits for so many"),
];

pub(super) const ROLLOUT: &[Key] = &[
    ("shadow", "duration, 1d", "a new version is scored beside the champion at least so long"),
    (
        "canary",
        "list of texts, [\"5% for 1d\", \"25% for 1d\"]",
        "then it serves a growing share of the keys",
    ),
    ("by", "text, none", "the feature whose values are the keys; the row's id if not given"),
    (
        "false_promotion",
        "float, 0.05",
        "the chance, at most, that a version that is not better takes over",
    ),
    (
        "false_abort",
        "float, 0.01",
        "the chance, at most, that one that is not worse is aborted or rolled back",
    ),
    ("margin", "float, 0", "more log loss that is no fault"),
    (
        "clip",
        "float, 0.001",
        "probabilities count as no nearer to 0 and 1; below a rare label's rate",
    ),
    ("min_rows", "1 to 1000000000, 500", "no step ends before so many rows were compared"),
    ("give_up", "duration, 30d", "a version that is found neither better nor worse is turned away"),
    ("probation", "duration, 7d", "so long it may be rolled back after it took over"),
    ("abort_on", "list of texts, []", "\"drift.NAME\": whose drift ends a canary or a probation"),
];

pub(super) const GATE: &[Key] = &[
    (
        "volume",
        "float, none",
        "rows to train on, at least, as a share of those of the one in charge",
    ),
    ("nulls", "float, none", "by how much a feature's share of NULLs may have grown"),
    ("range", "float, none", "the share of a feature's values, at most, that are new to it"),
    ("leakage", "float, none", "the AUC of a numeric feature alone, at most"),
    ("segments", "list of texts, []", "features whose values are compared apart"),
    ("segment_loss", "float, 0.02", "by how much its loss may be above the other's in a segment"),
    ("segment_rows", "1 to 1000000000, 200", "segments of fewer rows are not judged"),
    ("calibration", "float, none", "the expected calibration error, at most"),
    ("latency", "duration, none", "the mean time to score a row, at most"),
    ("size", "bytes, none", "of the artifact, at most"),
    ("requires_approval", "0 to 100, 0", "so many people must approve a version before it serves"),
];

pub(super) const DRIFT: &[Key] = &[
    ("of", "text or list of texts, *", "features, \"*\" for all and the score, or \"loss\""),
    ("reference", "\"training\", training", "what the window is compared with"),
    ("model", "text, none", "whose training set it is; the first that is retrained if not given"),
    ("reference_rows", "10 to 1000000, 10000", "rows of the reference"),
    ("window", "duration, 7d", "rows that are compared"),
    ("every", "duration, 1h", "how often, in event time"),
];

pub(super) const SCORE: &[Key] = &[
    ("champion", "text", "the model that is served"),
    ("challengers", "list of texts, []", "models that are scored beside it"),
    ("fallback", "any, 0.5", "models and at last a probability, until the champion is there"),
    ("freeze", "text, none", "the model whose first version is scored for ever, to compare with"),
    ("spans", "table of texts, none", "name = \"from/to\": spans that are summed up apart"),
];

pub(super) const TRACES: &[Key] = &[
    ("endpoint", "text", "a collector of OpenTelemetry, http://127.0.0.1:4318 for example"),
    (
        "protocol",
        "\"http/protobuf\" or \"grpc\" or \"http/json\", http/protobuf",
        "which OTLP it speaks; on port 4317 usually grpc, on 4318 the others",
    ),
    ("headers", "table of texts, none", "name = value: sent with all spans, a token for example"),
    ("ca", "text, none", "PEM: who signs the certificate of an https:// endpoint"),
];

pub(super) const ONLINE: &[Key] = &[
    ("entity", "text or list of texts", "columns of the spine that together name an entity"),
    ("max_entities", "1 to 1000000000, 1000000", "the one updated longest ago leaves beyond it"),
    ("max_age", "duration, none", "features older than this are answered as stale"),
    ("recent", "0 to 100000000, 100000", "the newest scored rows, which can be asked for by id"),
    ("edge", "\"event_time\" or \"wall_clock\", event_time", "where the windows of an entity end"),
];

pub(super) const SINK: &[Key] = &[
    ("of", "text, its name", "the stream: features, scores, models, alerts or dead_letters"),
    ("format", "text, none", "json, csv, parquet or arrow_ipc; by the file's ending if not given"),
    (
        "columns",
        "list of texts, none",
        "columns of the stream in the order wanted; all if not given",
    ),
];
