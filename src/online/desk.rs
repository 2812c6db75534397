//! Answers requests from the store.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value as Json, json};
use tidemill_config::plan::Fallback;
use tidemill_operators::dataflow::Shelf;
use tidemill_operators::predictor::probability;
use tidemill_types::key::category;
use tidemill_types::time::to_rfc3339;
use tidemill_types::{DataType, Error, Field, Id, Micros, Value};

use super::Online;
use super::clock::Clock;
use super::question::{Found, Held, find};
use super::view::{View, choose};
use crate::engine::check::{Compiled, NumberFrom};
use crate::mill::Status;
use crate::mill::status::Told;
use crate::models::registry::Registry;
use crate::serve::scorer::{
    Answer, Asked, FeatureMatrix, FeatureRows, Features, ModelInfo, ModelState, Question, Refusal,
    Scorer, StoreInfo,
};

/// Answers requests. The pipeline's own name stands for what it serves: the champion's score, or a
/// fallback's.
pub struct Desk {
    online: Arc<Online>,
    compiled: Arc<Compiled>,
    status: Arc<Status>,
    /// The folder of the registry.
    registry: PathBuf,
    /// Of each feature its place among numbers or categories.
    places: Vec<Place>,
    width: usize,
    depth: usize,
    /// Where windows are those of the moment of a request.
    clock: Option<Clock>,
    /// The features that models can read.
    plain: Vec<usize>,
    /// What can be asked; how much is held is not told here.
    info: StoreInfo,
}

#[derive(Clone, Copy)]
enum Place {
    Number(usize),
    Category(usize),
}

/// A score and what is said of it.
struct Scored {
    score: f64,
    version: u64,
    /// Why it is not the champion's.
    degraded: Option<&'static str>,
}

impl Desk {
    /// A desk before this store.
    pub fn new(
        online: Arc<Online>,
        compiled: Arc<Compiled>,
        status: Arc<Status>,
        registry: PathBuf,
    ) -> Desk {
        let (mut width, mut depth) = (0, 0);
        let place = |field: &Field| {
            let count = match field.data_type {
                DataType::String => &mut depth,
                _ => &mut width,
            };
            *count += 1;
            match field.data_type {
                DataType::String => Place::Category(*count - 1),
                _ => Place::Number(*count - 1),
            }
        };
        let places = compiled.program.feature_schema.fields.iter().map(place).collect();
        let fields = compiled.program.feature_schema.fields.iter().enumerate();
        let plain =
            fields.filter(|(_, field)| !field.data_type.is_nested()).map(|(f, _)| f).collect();
        let info = Desk::info(&compiled);
        Desk { online, compiled, status, registry, places, width, depth, clock: None, plain, info }
    }

    fn info(compiled: &Compiled) -> StoreInfo {
        let program = &compiled.program;
        let spine = |columns: &[usize]| -> Vec<Field> {
            columns.iter().map(|c| program.spine_schema.fields[*c].clone()).collect()
        };
        let kept = program.kept.clone().unwrap_or_default();
        StoreInfo {
            pipeline: compiled.plan.pipeline.name.value.clone(),
            entity: Desk::typed(&spine(&kept.entity)).into(),
            on_demand: Desk::typed(&spine(&kept.columns)).into(),
            features: Desk::typed(&program.feature_schema.fields).into(),
            ..StoreInfo::default()
        }
    }

    /// The same with windows as of the moment of a request, which `now` tells, read off the shelf.
    pub fn with_clock(mut self, shelf: Arc<Shelf>, now: fn() -> Micros) -> Desk {
        self.clock = Some(Clock::new(shelf, now));
        self
    }

    fn find(&self, question: &Question, wanted: &[usize]) -> Result<Found, Refusal> {
        find(&self.online, &self.compiled, question, self.clock.as_ref(), wanted)
    }

    /// The inputs of a row as models read them.
    fn inputs(&self, found: &Found, row: usize) -> (Vec<f64>, Vec<u64>) {
        let (mut numbers, mut categories) = match &found.held[row] {
            Held::Row(row) => (row.numbers.to_vec(), row.categories.to_vec()),
            _ => (vec![f64::NAN; self.width], vec![0; self.depth]),
        };
        let mut put = |feature: usize, value: &Value| match self.places[feature] {
            Place::Number(at) => numbers[at] = value.as_f64().unwrap_or(f64::NAN),
            Place::Category(at) => categories[at] = value.as_str().map_or(0, category),
        };
        if let Held::Entity(row) = &found.held[row] {
            row.features.iter().enumerate().for_each(|(feature, value)| put(feature, value));
        }
        found.instead.iter().for_each(|(feature, values)| put(*feature, &values[row]));
        (numbers, categories)
    }

    fn score(
        &self,
        view: &View,
        asked: &Asked,
        (numbers, categories): &(Vec<f64>, Vec<u64>),
        id: Option<&Id>,
    ) -> Result<Scored, Refusal> {
        // Who asks for the version in charge gets it, and not a canary that would serve the row.
        let canaries = asked.version.is_none();
        let (margins, versions) = view.margins(numbers, categories, id, canaries);
        let scored = match view.position(&asked.model) {
            None => {
                let none = || Refusal::Unavailable("nothing can score yet".to_string());
                let score = self.compiled.plan.score.as_ref().ok_or_else(none)?;
                let ready = margins.len() == self.compiled.plan.models.len();
                let choice = ready.then(|| choose(score, &margins, &versions));
                let choice = choice.flatten().ok_or_else(none)?;
                let taken_back = view.models[score.champion].rolled_back;
                let why = if taken_back { "rolled_back" } else { "warming_up" };
                let degraded = choice.degraded.then_some(why);
                Scored { score: choice.score, version: choice.version, degraded }
            }
            Some(m) if margins[m].is_nan() || versions[m] == 0 => {
                let why = format!("model {} has no version yet", asked.model);
                return Err(Refusal::Unavailable(why));
            }
            Some(m) => {
                let score = probability(margins[m]);
                Scored { score, version: versions[m], degraded: None }
            }
        };
        match asked.version {
            Some(wanted) if wanted != scored.version => Err(Refusal::Unavailable(format!(
                "version {wanted} of {} is not in charge any more, version {} is",
                asked.model, scored.version
            ))),
            _ => Ok(scored),
        }
    }

    /// The model of a name; the pipeline's own stands for its champion.
    fn model_of(&self, name: &str) -> Option<usize> {
        let plan = &self.compiled.plan;
        match &plan.score {
            Some(score) if plan.pipeline.name.value == name => Some(score.champion),
            _ => plan.models.iter().position(|known| known.name.value == name),
        }
    }

    /// Where the columns of a matrix belong among the numbers of a row, and its values.
    fn places_of<'a>(
        &self,
        asked: &Asked,
        question: &Question,
        matrix: &'a FeatureMatrix,
    ) -> Result<(Vec<usize>, &'a [f64]), Refusal> {
        let (name, width, model) = (&matrix.name, matrix.width, &asked.model);
        let refuse = |why: String| Err(Refusal::Invalid(format!("input `{name}` {why}")));
        if let Some((twice, _)) =
            question.given.columns.iter().find(|(name, _)| self.compiled.places.contains_key(name))
        {
            return refuse(format!("has all features, and `{twice}` is given too"));
        }
        let Some(m) = self.model_of(model) else {
            return refuse(format!("has all features of `{model}`, which is no model"));
        };
        let inputs = &self.compiled.inputs[m];
        if let Some(text) = inputs.names.categories.first() {
            let why = format!(
                "has numbers alone, and `{model}` reads `{text}`: give each feature in a tensor of its own"
            );
            return refuse(why);
        }
        let place = |from: &NumberFrom| match from {
            NumberFrom::Feature(place) => Some(*place),
            NumberFrom::Margin(_) => None,
        };
        let places: Vec<usize> = inputs.numbers.iter().filter_map(place).collect();
        match places.len() == width {
            true => Ok((places, &matrix.values)),
            false => refuse(format!(
                "has {width} columns, and `{model}` reads {} features: /v2/models/{model} has them in their order",
                places.len()
            )),
        }
    }

    fn stale(&self, time: Option<Micros>) -> bool {
        let max_age = self.compiled.plan.online.as_ref().and_then(|online| online.max_age);
        match (max_age, time, self.online.as_of()) {
            (Some(max_age), Some(time), Some(as_of)) => as_of.saturating_sub(time) > max_age,
            _ => false,
        }
    }

    fn typed(fields: &[Field]) -> Vec<(String, DataType)> {
        fields.iter().map(|field| (field.name.clone(), field.data_type)).collect()
    }
}

impl Scorer for Desk {
    fn metadata(&self) -> Vec<ModelInfo> {
        let plan = &self.compiled.plan;
        let view = self.online.view();
        let info = |name: &str, m: usize| {
            let current = Some(view.version(m)).filter(|version| *version > 0);
            let inputs = &self.compiled.inputs[m].names;
            let features = &self.compiled.program.feature_schema;
            let all = inputs.numbers.iter().chain(&inputs.categories);
            ModelInfo {
                name: name.to_string(),
                kind: plan.models[m].section.kind.value.clone(),
                versions: current.into_iter().collect(),
                current,
                features: all.filter_map(|n| Some((n.clone(), features.type_of(n)?))).collect(),
            }
        };
        let served = plan.score.as_ref().map(|s| info(&plan.pipeline.name.value, s.champion));
        let models = plan.models.iter().enumerate().map(|(m, model)| info(&model.name.value, m));
        served.into_iter().chain(models).collect()
    }

    fn state(&self, model: &str) -> Option<ModelState> {
        let view = self.online.view();
        let plan = &self.compiled.plan;
        let m = self.model_of(model)?;
        let current = Some(view.version(m)).filter(|version| *version > 0);
        let fallback = plan.score.iter().filter(|_| plan.pipeline.name.value == model);
        let steps_in = |fallback: &Fallback| match fallback {
            Fallback::Model(m) => view.version(*m) > 0,
            Fallback::Constant(_) => true,
        };
        let scores = current.is_some() || fallback.flat_map(|s| &s.fallback).any(steps_in);
        Some(ModelState { versions: current.into_iter().collect(), current, scores })
    }

    fn ready(&self) -> bool {
        let served = &self.compiled.plan.pipeline.name.value;
        self.online.as_of().is_some()
            && (self.compiled.plan.score.is_none()
                || self.state(served).is_some_and(|state| state.scores))
    }

    fn infer(&self, asked: &Asked, question: &Question) -> Result<Answer, Refusal> {
        let found = self.find(question, &self.plain)?;
        let view = self.online.view();
        let matrix = question.matrix.as_ref().map(|matrix| self.places_of(asked, question, matrix));
        let matrix = matrix.transpose()?;
        let rows = question.given.rows;
        let mut scores = Vec::with_capacity(rows);
        let (mut versions, mut fallback) = (Vec::with_capacity(rows), None);
        for row in 0..rows {
            let id = found.held[row].id();
            let mut inputs = self.inputs(&found, row);
            if let Some((places, values)) = &matrix {
                let values = &values[row * places.len()..];
                places.iter().zip(values).for_each(|(place, value)| inputs.0[*place] = *value);
            }
            let scored = self.score(&view, asked, &inputs, id)?;
            scores.push(scored.score);
            versions.push(scored.version);
            fallback = fallback.or(scored.degraded);
        }
        let times = found.held.iter().filter_map(Held::time);
        let features_at = times.min();
        let missed = found.named && found.held.iter().any(|held| matches!(held, Held::Nothing));
        let degraded = match (fallback, missed, self.stale(features_at)) {
            (Some(why), ..) => Some(why),
            (_, true, _) => Some("unknown_entity"),
            (_, _, true) => Some("stale_features"),
            _ => None,
        };
        let as_of = self.online.as_of().unwrap_or(0);
        let epoch = as_of.div_euclid(self.compiled.plan.pipeline.tick);
        Ok(Answer {
            scores,
            version: versions.last().copied().unwrap_or(0),
            versions,
            epoch: u64::try_from(epoch).unwrap_or(0),
            as_of,
            features_at,
            windows_at: found.windows_at,
            degraded: degraded.map(str::to_string),
        })
    }

    fn features(&self, question: &Question, wanted: &[String]) -> Result<FeatureRows, Refusal> {
        let all = &self.compiled.program.feature_schema;
        let index = |name: &String| {
            let unknown = || Refusal::Invalid(format!("there is no feature `{name}`"));
            self.compiled.places.get(name).copied().ok_or_else(unknown)
        };
        let wanted: Vec<usize> = match wanted.is_empty() {
            true => (0..all.fields.len()).collect(),
            false => wanted.iter().map(index).collect::<Result<_, _>>()?,
        };
        let found = self.find(question, &wanted)?;
        let times: Vec<Option<Micros>> = found.held.iter().map(Held::time).collect();
        let fields: Vec<Field> = wanted.iter().map(|f| all.fields[*f].clone()).collect();
        Ok(FeatureRows {
            fields: Desk::typed(&fields),
            columns: wanted.iter().map(|f| found.column(*f)).collect(),
            stale: times.iter().map(|time| self.stale(*time)).collect(),
            times,
            windows_at: found.windows_at,
            as_of: self.online.as_of(),
        })
    }

    fn explain(&self, id: &str) -> Result<Json, Refusal> {
        let question = Question {
            ids: Some(vec![id.to_string()]),
            given: Features { rows: 1, columns: Vec::new() },
            ..Question::default()
        };
        let found = self.find(&question, &[])?;
        let Some(Held::Row(row)) = found.held.first() else {
            return Err(Refusal::UnknownId(id.to_string()));
        };
        let view = self.online.view();
        let served = Asked { model: self.compiled.plan.pipeline.name.value.clone(), version: None };
        let inputs = self.inputs(&found, 0);
        let now = self.score(&view, &served, &inputs, Some(&row.id))?;
        let mut effects = Vec::new();
        for (feature, field) in self.compiled.program.feature_schema.fields.iter().enumerate() {
            let mut without = inputs.clone();
            match self.places[feature] {
                Place::Number(at) => without.0[at] = f64::NAN,
                Place::Category(at) => without.1[at] = 0,
            }
            let value = found.column(feature).into_iter().next().unwrap_or_default();
            let effect = now.score - self.score(&view, &served, &without, Some(&row.id))?.score;
            effects.push((field, value, effect));
        }
        effects.sort_by(|a, b| b.2.abs().total_cmp(&a.2.abs()));
        let effect = |(field, value, effect): &(&Field, Value, f64)| {
            json!({
                "feature": field.name,
                "value": crate::serve::json_of(value, field.data_type),
                "effect": effect,
            })
        };
        let models = view.models.iter().enumerate().map(|(m, model)| {
            json!({
                "model": *model.name,
                "version": row.versions.get(m),
                "margin": row.margins.get(m).filter(|margin| margin.is_finite()),
                "version_now": model.version,
            })
        });
        Ok(json!({
            "id": id,
            "event_time": to_rfc3339(row.time),
            "score": Some(row.served).filter(|score| score.is_finite()),
            "score_now": now.score,
            "models": models.collect::<Vec<_>>(),
            "features": effects.iter().map(effect).collect::<Vec<_>>(),
            "effect_is": "the score of today's models less their score with the feature missing",
        }))
    }

    fn drift(&self, feature: Option<&str>) -> Json {
        let all = self.status.drift();
        let wanted = all.iter().filter(|(_, _, of, _)| feature.is_none_or(|f| *f == **of));
        let reading = |(drift, detector, of, told): &(String, &str, Arc<str>, Told)| {
            json!({
                "drift": drift,
                "detector": detector,
                "of": **of,
                "at": to_rfc3339(told.at),
                "statistic": Some(told.statistic).filter(|s| s.is_finite()),
                "p_value": told.p_value.filter(|p| p.is_finite()),
                "level": told.level,
            })
        };
        let as_of = self.online.as_of().map(to_rfc3339);
        json!({"as_of": as_of, "readings": wanted.map(reading).collect::<Vec<_>>()})
    }

    fn history(&self, model: &str) -> Result<Json, Error> {
        let models = &self.compiled.plan.models;
        let m = models.iter().position(|known| known.name.value == model).ok_or_else(|| {
            let names: Vec<&str> = models.iter().map(|m| m.name.value.as_str()).collect();
            Error::user(format!("there is no model `{model}`; there are: {}", names.join(", ")))
        })?;
        let versions = Registry::open(&self.registry)?.list(model)?;
        let in_charge = self.online.view().version(m);
        Ok(json!({"model": model, "in_charge": in_charge, "versions": versions}))
    }

    fn store(&self) -> StoreInfo {
        StoreInfo {
            entities: self.online.entities(),
            evicted: self.online.evicted(),
            ..self.info.clone()
        }
    }
}
