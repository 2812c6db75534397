//! What another version of a model says of rows: a sink that takes their features and writes scores.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{Field, SchemaRef};
use tidemill_config::plan::Stream;
use tidemill_connectors::sink::Sink;
use tidemill_operators::dataflow::{Features, Wire};
use tidemill_operators::predictor::{PREDICTORS, Predictor, Row, probability};
use tidemill_types::{Error, Id, Micros};

use super::check::{Compiled, ModelInputs, NumberFrom};
use super::outputs::schema_of;
use crate::mill::matrix::Matrix;
use crate::models::registry::Registry;

/// Scores rows of the stream of features with one version of one model, as rows of the stream of scores.
pub struct Rescore {
    inner: Box<dyn Sink>,
    schema: SchemaRef,
    inputs: ModelInputs,
    predictor: Arc<dyn Predictor>,
    model: String,
    version: u64,
    /// Which columns are features.
    features: std::ops::Range<usize>,
}

impl Rescore {
    /// Scores with a version from the registry, into a sink of scores.
    ///
    /// # Errors
    /// A model that there is none of, that reads another model's margin or learns row by row; a version that
    /// the registry does not have.
    pub fn new(
        compiled: &Compiled,
        registry: &Registry,
        model: &str,
        version: u64,
        inner: impl FnOnce(SchemaRef) -> Result<Box<dyn Sink>, Error>,
    ) -> Result<Rescore, Error> {
        let names: Vec<&str> = compiled.plan.models.iter().map(|m| m.name.value.as_str()).collect();
        let place = names.iter().position(|name| *name == model);
        let place = place.ok_or_else(|| {
            Error::user(format!("there is no model `{model}`"))
                .help(format!("the models are {}", names.join(", ")))
        })?;
        let inputs = compiled.inputs[place].clone();
        if let Some(NumberFrom::Margin(other)) =
            inputs.numbers.iter().find(|from| matches!(from, NumberFrom::Margin(_)))
        {
            let other = names[*other];
            return Err(Error::user(format!(
                "model `{model}` reads the margin of `{other}`: what its version {version} says depends on which version of \
                 that one scored"
            ))
            .help(format!("ask for a version of `{other}`")));
        }
        if compiled.plan.models[place].retrain.is_none() {
            return Err(Error::user(format!(
                "model `{model}` learns row by row: its version {version} is what it was at one moment"
            ))
            .help("ask for a version of a model that is trained"));
        }
        let (found, artifact) = registry.get(model, version)?;
        let entry = PREDICTORS.iter().find(|entry| entry.name == found.kind);
        let entry = entry.ok_or_else(|| {
            Error::external(format!("nothing here reads artifacts of kind {}", found.kind))
        })?;
        let predictor = (entry.load)(&artifact, &inputs.names).map_err(|why| {
            Error::external(format!(
                "version {version} of `{model}` does not fit this pipeline: {why}"
            ))
        })?;
        let n = compiled.program.feature_schema.fields.len();
        let schema = schema_of(Stream::Scores, compiled.id_type(), &compiled.sent_features());
        let entity = compiled.sent_features().fields.len() - n;
        Ok(Rescore {
            inner: inner(Arc::clone(&schema))?,
            schema,
            inputs,
            predictor: Arc::from(predictor),
            model: model.to_string(),
            version,
            features: 2 + entity..2 + entity + n,
        })
    }
}

impl Sink for Rescore {
    fn write(&mut self, rows: &RecordBatch, times: &[Micros]) -> Result<(), Error> {
        let fits = |e| Error::internal(format!("rows of features: {e}"));
        let picks: Vec<usize> = self.features.clone().collect();
        let n = rows.num_rows();
        let matrix = Matrix::new(vec![Features {
            last: true,
            times: times.to_vec(),
            ids: vec![Id::Int(0); n],
            columns: Wire(rows.project(&picks).map_err(fits)?),
            kept: None,
        }]);
        let score = |row| {
            let (numbers, categories) =
                self.inputs.of(matrix.numbers(row), matrix.categories(row), &[]);
            probability(self.predictor.margin(Row { numbers: &numbers, categories: &categories }))
        };
        let scores: Float64Array = (0..n).map(score).collect::<Vec<f64>>().into();
        let scores: ArrayRef = Arc::new(scores);
        let column = |field: &Arc<Field>| -> ArrayRef {
            match field.name().as_str() {
                "id" => Arc::clone(rows.column(0)),
                "event_time" => Arc::clone(rows.column(1)),
                "model" => Arc::new(StringArray::from(vec![self.model.as_str(); n])),
                "version" => Arc::new(Int64Array::from(vec![self.version as i64; n])),
                "score" => Arc::clone(&scores),
                "diff" => Arc::new(Int64Array::from(vec![1; n])),
                // What was served has more to tell: why it was no other model's score.
                _ => new_null_array(field.data_type(), n),
            }
        };
        let columns: Vec<ArrayRef> = self.schema.fields().iter().map(column).collect();
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(fits)?;
        self.inner.write(&rows, times)
    }

    fn commit(&mut self) -> Result<(), Error> {
        self.inner.commit()
    }

    fn close(self: Box<Self>) -> Result<(), Error> {
        self.inner.close()
    }
}
