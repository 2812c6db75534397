//! From a question to rows of features: what is held, what is computed anew, what is given.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, new_null_array};
use tidemill_operators::column::{Builder, values};
use tidemill_types::{DataType, Field, Id, Key, MOST_ITEMS, Micros, Value};

use super::clock::Clock;
use super::{EntityRow, Online};
use crate::engine::check::Compiled;
use crate::mill::join::Scored;
use crate::serve::scorer::{Question, Refusal};

/// What is held of a row that was asked for.
pub(super) enum Held {
    /// The newest of an entity.
    Entity(Arc<EntityRow>),
    /// A row that was scored.
    Row(Arc<Scored>),
    /// Nothing.
    Nothing,
}

impl Held {
    /// The event time of what is held.
    pub(super) fn time(&self) -> Option<Micros> {
        match self {
            Held::Entity(row) => Some(row.time),
            Held::Row(row) => Some(row.time),
            Held::Nothing => None,
        }
    }

    /// The id of what is held.
    pub(super) fn id(&self) -> Option<&Id> {
        match self {
            Held::Entity(row) => Some(&row.id),
            Held::Row(row) => Some(&row.id),
            Held::Nothing => None,
        }
    }
}

/// A question, looked up.
pub(super) struct Found {
    /// Of each row what is held.
    pub(super) held: Vec<Held>,
    /// Whether entities were named, so that [`Held::Nothing`] is a miss.
    pub(super) named: bool,
    /// Features in place of those held, by their place in the pipeline: computed anew, then given ones.
    pub(super) instead: Vec<(usize, Vec<Value>)>,
    /// As of when windows were read anew; nothing where they are those of the rows.
    pub(super) windows_at: Option<Micros>,
}

/// Columns of a question, sorted by what they are.
#[derive(Default)]
pub(super) struct Sorted<'a> {
    features: Vec<(usize, &'a Vec<Value>)>,
    /// By column of the spine.
    pub(super) spine: Vec<(usize, &'a Vec<Value>)>,
    /// By part of the key.
    pub(super) entity: Vec<(usize, &'a Vec<Value>)>,
}

/// Looks a question up; with a clock, `wanted` features of entities are those of the moment.
///
/// # Errors
/// Names that nothing has, values of another type, ids that are not held, half an entity; a moment that is not
/// answered.
pub(super) fn find(
    online: &Online,
    compiled: &Compiled,
    question: &Question,
    clock: Option<&Clock>,
    wanted: &[usize],
) -> Result<Found, Refusal> {
    let sorted = sort(compiled, question)?;
    let rows = question.given.rows;
    let entity = compiled.entity();
    let (mut held, mut named) = (Vec::with_capacity(rows), false);
    if let Some(ids) = &question.ids {
        for text in ids {
            let id = match compiled.id_type() {
                DataType::Int64 => text.parse().ok().map(Id::Int),
                _ => Some(Id::Text(text.as_str().into())),
            };
            let row = id.and_then(|id| online.row(&id));
            held.push(Held::Row(row.ok_or_else(|| Refusal::UnknownId(text.clone()))?));
        }
    } else if !entity.is_empty() && sorted.entity.len() == entity.len() {
        named = true;
        for row in 0..rows {
            let key = Key::of(sorted.entity.iter().map(|(_, values)| &values[row]));
            let found = key.and_then(|key| online.entity(key));
            held.push(found.map_or(Held::Nothing, Held::Entity));
        }
    } else {
        held.extend((0..rows).map(|_| Held::Nothing));
    }
    let by_clock = question.ids.is_none() && (named || !sorted.spine.is_empty());
    let (mut instead, windows_at) = match (clock.filter(|_| by_clock), question.as_of) {
        (Some(clock), as_of) => {
            let asked = Asked { given: &sorted, held: &held, rows, wanted };
            let (at, computed) = clock.features(compiled, &asked, as_of)?;
            (computed, Some(at))
        }
        (None, None) => (compute(compiled, &sorted, &held, rows)?, None),
        (None, Some(_)) => return Err(Refusal::Invalid(NO_MOMENT.to_string())),
    };
    if !instead.is_empty() {
        let given: HashSet<usize> = sorted.features.iter().map(|(feature, _)| *feature).collect();
        instead.retain(|(feature, _)| !given.contains(feature));
    }
    instead.extend(sorted.features.into_iter().map(|(feature, values)| (feature, values.clone())));
    Ok(Found { held, named, instead, windows_at })
}

const NO_MOMENT: &str = "`as_of` is for entities, in a pipeline with edge = \"wall_clock\" in [online]; \
                         rows by id are as they were scored";

/// What is to be computed as of a moment.
pub(super) struct Asked<'a> {
    pub(super) given: &'a Sorted<'a>,
    pub(super) held: &'a [Held],
    pub(super) rows: usize,
    /// Features by their place.
    pub(super) wanted: &'a [usize],
}

/// Whether a value may stand in a column of this type.
fn fits(value: &Value, data_type: DataType) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(_) => matches!(data_type, DataType::Bool | DataType::Float64 | DataType::Int64),
        Value::Int(_) => {
            matches!(data_type, DataType::Int64 | DataType::Float64 | DataType::Timestamp)
        }
        Value::Float(_) => matches!(data_type, DataType::Float64 | DataType::Int64),
        Value::Text(_) => data_type == DataType::String,
        Value::List(items) => match data_type {
            DataType::List(item) => items.iter().all(|value| fits(value, item.into())),
            _ => false,
        },
        Value::Map(entries) => match data_type {
            DataType::Map(item) => entries.iter().all(|(_, value)| fits(value, item.into())),
            _ => false,
        },
    }
}

/// Whether a value may stand in a column: a list or a map may be no longer than one of a source.
fn belongs(value: &Value, column: &Field) -> bool {
    let long_enough = match (value, column.length) {
        (Value::List(items), Some(length)) => items.len() == length as usize,
        (Value::List(items), None) => items.len() <= MOST_ITEMS,
        (Value::Map(entries), None) => entries.len() <= MOST_ITEMS,
        _ => true,
    };
    long_enough && fits(value, column.data_type)
}

fn sort<'a>(compiled: &Compiled, question: &'a Question) -> Result<Sorted<'a>, Refusal> {
    let (features, spine) = (&compiled.program.feature_schema, &compiled.program.spine_schema);
    let entity = compiled.entity();
    let mut sorted = Sorted::default();
    for (name, values) in &question.given.columns {
        let check = |field: &Field, what: &str| {
            let wrong = values.iter().any(|value| !belongs(value, field));
            let why = || format!("{what} `{name}` is of type {}", field.declared());
            if wrong { Err(Refusal::Invalid(why())) } else { Ok(()) }
        };
        let part = entity.iter().position(|field| field.name == *name);
        let feature = compiled.places.get(name).copied();
        let column = spine.index_of(name);
        if let Some(part) = part {
            check(&entity[part], "column")?;
            sorted.entity.push((part, values));
        }
        if let Some(feature) = feature {
            let field = &features.fields[feature];
            if field.data_type.is_nested() {
                let why =
                    format!("feature `{name}` is of type {}: no model reads it", field.data_type);
                return Err(Refusal::Invalid(why));
            }
            check(field, "feature")?;
            sorted.features.push((feature, values));
        }
        // A column that only names the entity changes no feature.
        if let Some(column) = column
            && part.is_none()
            && values.iter().all(|value| belongs(value, &spine.fields[column]))
        {
            sorted.spine.push((column, values));
        } else if part.is_none() && feature.is_none() {
            match column {
                Some(column) => check(&spine.fields[column], "column")?,
                None => {
                    let why = format!("there is neither a feature nor a column `{name}`");
                    return Err(Refusal::Invalid(why));
                }
            }
        }
    }
    sorted.entity.sort_by_key(|(part, _)| *part);
    let named = sorted.entity.len();
    if named > 0 && named < entity.len() {
        let names: Vec<&str> = entity.iter().map(|field| field.name.as_str()).collect();
        return Err(Refusal::Invalid(format!("an entity is named by all of {}", names.join(", "))));
    }
    Ok(sorted)
}

/// The features that read a given column of the spine, by the expressions that the pipeline runs. Other
/// columns and the answers of windows are those of the entity's newest row; a feature over a window is
/// NULL where no row is held.
fn compute(
    compiled: &Compiled,
    sorted: &Sorted<'_>,
    held: &[Held],
    rows: usize,
) -> Result<Vec<(usize, Vec<Value>)>, Refusal> {
    let program = &compiled.program;
    let width = program.spine_schema.fields.len();
    let given = |column: usize| sorted.spine.iter().find(|(given, _)| *given == column);
    let mut out = Vec::new();
    if sorted.spine.is_empty() {
        return Ok(out);
    }
    let kept = program.kept.clone().unwrap_or_default();
    let of_held = |place: usize, data_type: DataType| kept_column(held, place, data_type);
    for (f, feature) in program.features.iter().enumerate() {
        if !feature
            .scalar
            .columns()
            .iter()
            .any(|column| *column < width && given(*column).is_some())
        {
            continue;
        }
        if held.iter().any(|row| matches!(row, Held::Row(_))) {
            let name = &program.feature_schema.fields[f].name;
            let why =
                format!("feature `{name}` of a row that was scored is given as a feature, or not");
            return Err(Refusal::Invalid(why));
        }
        let own = (0..width).map(|column| {
            let data_type = program.spine_schema.fields[column].data_type;
            if let Some((_, values)) = given(column) {
                return given_column(values, data_type);
            }
            match kept.columns.iter().position(|known| *known == column) {
                Some(place) if feature.scalar.columns().contains(&column) => {
                    of_held(place, data_type)
                }
                _ => new_null_array(&data_type.to_arrow(), rows),
            }
        });
        let calls = feature.calls.iter().map(|call| {
            let group = &program.groups[call.group];
            let data_type = match (call.steps, group.outputs[call.output].as_item()) {
                (Some(_), Some(item)) => DataType::List(item),
                _ => group.outputs[call.output],
            };
            let place = kept.calls.iter().position(|known| known == call);
            of_held(place.map_or(usize::MAX, |place| kept.columns.len() + place), data_type)
        });
        let columns: Vec<ArrayRef> = own.chain(calls).collect();
        let mut made = values(&feature.scalar.evaluate_columns(&columns, rows).0);
        if !feature.calls.is_empty() {
            for (value, row) in made.iter_mut().zip(held) {
                if matches!(row, Held::Nothing) {
                    *value = Value::Null;
                }
            }
        }
        out.push((f, made));
    }
    Ok(out)
}

/// A column as it was given.
pub(super) fn given_column(values: &[Value], data_type: DataType) -> ArrayRef {
    let mut built = Builder::new(data_type, values.len());
    values.iter().for_each(|value| built.push(&cast(value, data_type)));
    built.finish()
}

/// What is kept of the rows that are held, by its place.
pub(super) fn kept_column(held: &[Held], place: usize, data_type: DataType) -> ArrayRef {
    let mut column = Builder::new(data_type, held.len());
    for row in held {
        let value = match row {
            Held::Entity(row) => row.kept.get(place).unwrap_or(&Value::Null),
            _ => &Value::Null,
        };
        column.push(value);
    }
    column.finish()
}

/// A number as the column has it.
fn cast(value: &Value, data_type: DataType) -> Value {
    match (data_type, value) {
        (DataType::Float64, value) => value.as_f64().map_or(Value::Null, Value::Float),
        (DataType::Int64, Value::Float(f)) if f.fract() == 0.0 && f.abs() < 9e15 => {
            Value::Int(*f as i64)
        }
        (DataType::Int64, Value::Float(_)) => Value::Null,
        (DataType::Int64, value) => value.as_i64().map_or(Value::Null, Value::Int),
        (DataType::List(item), Value::List(items)) => {
            items.iter().map(|value| cast(value, item.into())).collect()
        }
        (DataType::Map(item), Value::Map(entries)) => {
            let each = entries.iter().map(|(key, value)| (key.clone(), cast(value, item.into())));
            Value::map(each)
        }
        (_, value) => value.clone(),
    }
}

impl Found {
    /// The values of a feature, row by row.
    pub(super) fn column(&self, feature: usize) -> Vec<Value> {
        if let Some((_, values)) = self.instead.iter().find(|(known, _)| *known == feature) {
            return values.clone();
        }
        let value = |held: &Held| match held {
            Held::Entity(row) => row.features.get(feature).cloned().unwrap_or_default(),
            Held::Row(row) => {
                let cell = row.columns.column(feature).slice(row.row as usize, 1);
                values(&cell).into_iter().next().unwrap_or_default()
            }
            Held::Nothing => Value::Null,
        };
        self.held.iter().map(value).collect()
    }
}
