//! Scores on request: a read of what the mill holds, which changes nothing in it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidemill_operators::predictor::probability;
use tidemill_types::key::category;
use tidemill_types::{DataType, Field, Id, Schema, Value};

use super::Mill;
use super::emit::Served;
use super::join::Scored;
use super::matrix::Matrix;
use super::models::Model;
use crate::engine::check::Compiled;
use crate::serve::scorer::{Answer, Asked, Features, ModelInfo, Refusal, Scorer};

/// How long a request waits for its turn between two bundles.
const TURN: Duration = Duration::from_secs(2);

/// A mill that others may ask.
pub type SharedMill = Arc<Mutex<Option<Mill>>>;

/// Answers requests from a mill. The pipeline's own name stands for what it serves: the champion's
/// score, or a fallback's.
pub struct Desk {
    mill: SharedMill,
    compiled: Arc<Compiled>,
}

/// One row as it was asked for.
struct Row {
    numbers: Vec<f64>,
    categories: Vec<u64>,
}

impl Desk {
    /// A desk before this mill.
    pub fn new(mill: SharedMill, compiled: Arc<Compiled>) -> Desk {
        Desk { mill, compiled }
    }

    /// Waits for a turn.
    fn with<R>(&self, ask: impl FnOnce(&mut Mill) -> Result<R, Refusal>) -> Result<R, Refusal> {
        let until = Instant::now() + TURN;
        loop {
            if let Ok(mut mill) = self.mill.try_lock() {
                let none = || Refusal::Unavailable("the pipeline has not started".to_string());
                return ask(mill.as_mut().ok_or_else(none)?);
            }
            if Instant::now() >= until {
                let why = "the pipeline waits for a training; ask again".to_string();
                return Err(Refusal::Unavailable(why));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn features(&self) -> &Schema {
        &self.compiled.program.feature_schema
    }

    /// Puts given values in their places.
    fn place(&self, given: &Features, r: usize, row: &mut Row) -> Result<(), Refusal> {
        for (name, values) in &given.columns {
            let schema = self.features();
            let Some(index) = schema.index_of(name) else {
                return Err(Refusal::Invalid(format!("there is no feature `{name}`")));
            };
            let text = |f: &&Field| f.data_type == DataType::String;
            let before = &schema.fields[..index];
            let texts = before.iter().filter(text).count();
            let field = &schema.fields[index];
            let value = values.get(r).unwrap_or(&Value::Null);
            if field.data_type.is_nested() {
                let why =
                    format!("feature `{name}` is of type {}: no model reads it", field.data_type);
                return Err(Refusal::Invalid(why));
            }
            if field.data_type == DataType::String {
                row.categories[texts] = match value {
                    Value::Text(text) => category(text),
                    Value::Null => 0,
                    _ => return Err(wrong(field)),
                };
            } else {
                row.numbers[index - texts] = match value {
                    Value::Int(i) => *i as f64,
                    Value::Float(f) => *f,
                    Value::Bool(b) => f64::from(u8::from(*b)),
                    Value::Null => f64::NAN,
                    Value::Text(_) | Value::List(_) | Value::Map(_) => return Err(wrong(field)),
                };
            }
        }
        Ok(())
    }

    fn answer(&self, mill: &mut Mill, asked: &Asked, rows: Vec<Row>) -> Result<Answer, Refusal> {
        let mut scores = Vec::with_capacity(rows.len());
        let mut said = (0, None);
        for row in rows {
            let (score, version, degraded) = mill.ask(&asked.model, asked.version, &row)?;
            scores.push(score);
            said = (version, degraded);
        }
        let as_of = mill.clock.unwrap_or(0);
        let epoch = u64::try_from(mill.tick_of(as_of)).unwrap_or(0);
        let (version, degraded) = said;
        Ok(Answer { scores, version, epoch, as_of, degraded })
    }
}

fn wrong(field: &Field) -> Refusal {
    Refusal::Invalid(format!("feature `{}` is of type {}", field.name, field.data_type))
}

impl Scorer for Desk {
    fn metadata(&self) -> Vec<ModelInfo> {
        let plan = &self.compiled.plan;
        let current = |m: usize| {
            self.with(|mill| Ok(mill.models[m].version())).ok().filter(|version| *version > 0)
        };
        let info = |name: &str, m: usize| {
            let current = current(m);
            let inputs = &self.compiled.inputs[m].names;
            let all = inputs.numbers.iter().chain(&inputs.categories);
            let known = all.filter_map(|n| Some((n.clone(), self.features().type_of(n)?)));
            ModelInfo {
                name: name.to_string(),
                kind: plan.models[m].section.kind.value.clone(),
                versions: current.into_iter().collect(),
                current,
                features: known.collect(),
            }
        };
        let served = plan.score.as_ref().map(|s| info(&plan.pipeline.name.value, s.champion));
        let models = plan.models.iter().enumerate().map(|(m, model)| info(&model.name.value, m));
        served.into_iter().chain(models).collect()
    }

    fn ready(&self) -> bool {
        self.compiled.plan.score.is_some()
            && self.with(|mill| Ok(mill.clock.is_some())).unwrap_or(false)
    }

    fn infer_by_id(
        &self,
        asked: &Asked,
        ids: &[String],
        overrides: &Features,
    ) -> Result<Answer, Refusal> {
        self.with(|mill| {
            let rows = ids.iter().enumerate().map(|(r, text)| {
                let id = mill.id_of(text);
                let held = id.and_then(|id| mill.held(&id));
                let held = held.ok_or_else(|| Refusal::UnknownId(text.clone()))?;
                let mut row =
                    Row { numbers: held.numbers.to_vec(), categories: held.categories.to_vec() };
                self.place(overrides, r, &mut row)?;
                Ok(row)
            });
            let rows = rows.collect::<Result<Vec<_>, Refusal>>()?;
            self.answer(mill, asked, rows)
        })
    }

    fn infer_features(&self, asked: &Asked, given: &Features) -> Result<Answer, Refusal> {
        let texts = self.features().fields.iter().filter(|f| f.data_type == DataType::String);
        let depth = texts.count();
        let width = self.features().fields.len() - depth;
        let rows = (0..given.rows).map(|r| {
            let mut row = Row { numbers: vec![f64::NAN; width], categories: vec![0; depth] };
            self.place(given, r, &mut row).map(|()| row)
        });
        let rows = rows.collect::<Result<Vec<_>, Refusal>>()?;
        self.with(|mill| self.answer(mill, asked, rows))
    }
}

impl Mill {
    /// The id that a text stands for.
    fn id_of(&self, text: &str) -> Option<Id> {
        if self.emit.has_whole_ids() {
            return text.parse().ok().map(Id::Int);
        }
        Some(Id::Text(text.into()))
    }

    /// A row that is held until its label comes or its time is over.
    fn held(&self, id: &Id) -> Option<Arc<Scored>> {
        let open = self.open.row(id);
        open.or_else(|| self.joins.iter().find_map(|join| join.row(id)))
    }

    /// Score, version and degraded mode of a row, as of now.
    fn ask(
        &mut self,
        name: &str,
        version: Option<u64>,
        row: &Row,
    ) -> Result<(f64, u64, Option<String>), Refusal> {
        let rows = Matrix::of_row(&row.numbers, &row.categories);
        self.models.iter_mut().for_each(Model::new_bundle);
        let mut margins = Vec::with_capacity(self.models.len());
        for model in &mut self.models {
            let margin = model.margin(&rows, 0, &margins);
            margins.push(margin);
        }
        // What was kept of the bundle under way is of no use after another row.
        self.models.iter_mut().for_each(Model::new_bundle);
        let unavailable = |what: String| Refusal::Unavailable(what);
        let (score, found, degraded) = match self.models.iter().position(|m| *m.name == *name) {
            None => {
                let none = || unavailable("nothing can score yet".to_string());
                let served: Served = self.served(&margins).ok_or_else(none)?;
                (served.score, served.version, served.degraded.map(|d| d.to_string()))
            }
            Some(m) if margins[m].is_nan() || self.models[m].version() == 0 => {
                return Err(unavailable(format!("model {name} has no version yet")));
            }
            Some(m) => (probability(margins[m]), self.models[m].version(), None),
        };
        match version {
            Some(wanted) if wanted != found => Err(unavailable(format!(
                "version {wanted} of {name} is not in charge any more, version {found} is"
            ))),
            _ => Ok((score, found, degraded)),
        }
    }
}
