//! Operators that converters put around a model of one row: each from its node, and what it computes in 32
//! bits, as ONNX Runtime does (<https://onnx.ai/onnx/operators>).

use super::attributes::{Attributes, called};
use super::classes::{After, logistic, zero_and_one};
use super::messages::{FLOAT, Node};
use super::trees::Trees;

/// What a step computes of its inputs.
#[derive(Debug)]
pub enum Operator {
    /// Trees.
    Trees(Trees),
    /// Sums of products, and what becomes of them if they are classes.
    Linear { columns: Vec<(Vec<f32>, f32)>, classes: Option<After> },
    /// Number by number.
    Each(fn(f32) -> f32),
    /// Number by number of two or more; one number stands for as many as another has.
    Pair(fn(f32, f32) -> f32),
    /// One after the other.
    Concat,
    /// Numbers at these places.
    Pick(Vec<usize>),
    /// (x - offset) x scale.
    Scale { offset: Vec<f32>, scale: Vec<f32> },
    /// What stands for this value.
    Impute { replaced: f32, by: Vec<f32> },
    /// Divided by a norm.
    Normalize(Norm),
    /// Exponentials as shares of their sum.
    Softmax,
}

/// A norm of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Norm {
    /// The largest number.
    Max,
    /// The sum of magnitudes.
    L1,
    /// The root of the sum of squares.
    L2,
}

/// An input of a step: how many numbers, and which if they are known.
pub struct Given<'a> {
    /// How many.
    pub width: usize,
    /// Floats of a constant.
    pub floats: Option<&'a [f32]>,
    /// Whole numbers of a constant.
    pub ints: Option<&'a [i64]>,
    /// Rows and columns of a constant.
    pub shape: &'a [i64],
}

impl Operator {
    /// Reads a node; how many numbers it gives with its operator. Nothing if it gives its input as it is.
    pub fn of(node: &Node, given: &[Given]) -> Result<Option<(Operator, usize)>, String> {
        let takes = |n: usize| match given.len() == n {
            true => Ok(given[0].width),
            false => Err(format!("{} has {} inputs, not {n}", called(node), given.len())),
        };
        let row = |operator: Operator, width: usize| Ok(Some((operator, width)));
        let kind = (node.domain.as_str(), node.operator.as_str());
        match kind {
            ("" | "ai.onnx", "Identity") => takes(1).map(|_| None),
            ("" | "ai.onnx", "Cast") => {
                let attributes = Attributes::of(node, &["to", "saturate"])?;
                if attributes.int("to", 0) != i64::from(FLOAT) {
                    return Err(format!("{} makes no floats of 32 bits", called(node)));
                }
                takes(1).map(|_| None)
            }
            ("ai.onnx.ml", "ZipMap") => {
                let own = ["classlabels_int64s", "classlabels_strings"];
                let attributes = Attributes::of(node, &own)?;
                zero_and_one(node, attributes.ints(own[0]), attributes.texts(own[1]))?;
                takes(1).map(|_| None)
            }
            ("" | "ai.onnx", "Sigmoid") => row(Operator::Each(logistic), takes(1)?),
            ("" | "ai.onnx", "Exp") => row(Operator::Each(libm::expf), takes(1)?),
            ("" | "ai.onnx", "Tanh") => row(Operator::Each(libm::tanhf), takes(1)?),
            ("" | "ai.onnx", "Neg") => row(Operator::Each(|x| -x), takes(1)?),
            ("" | "ai.onnx", "Relu") => {
                row(Operator::Each(|x| if x < 0.0 { 0.0 } else { x }), takes(1)?)
            }
            ("" | "ai.onnx", "Add" | "Sub" | "Mul" | "Div" | "Sum") => {
                Attributes::of(node, &[])?;
                if node.operator != "Sum" {
                    takes(2)?;
                }
                pair(node, given)
            }
            ("" | "ai.onnx", "Concat") => {
                let axis = Attributes::of(node, &["axis"])?.int("axis", 0);
                if axis != 1 && axis != -1 {
                    return Err(format!("{} joins rows: only columns can be", called(node)));
                }
                row(Operator::Concat, given.iter().map(|g| g.width).sum())
            }
            ("ai.onnx.ml", "ArrayFeatureExtractor") => pick(node, takes(2)?, &given[1]),
            ("ai.onnx.ml", "Scaler") => {
                let attributes = Attributes::of(node, &["offset", "scale"])?;
                let (width, list) = (takes(1)?, |name| attributes.floats(name));
                let (offset, scale) = (list("offset"), list("scale"));
                let (offset, scale) = (wide(node, offset, width)?, wide(node, scale, width)?);
                row(Operator::Scale { offset, scale }, width)
            }
            ("ai.onnx.ml", "Imputer") => {
                let attributes =
                    Attributes::of(node, &["imputed_value_floats", "replaced_value_float"])?;
                let by = wide(node, attributes.floats("imputed_value_floats"), takes(1)?)?;
                let replaced = attributes.float("replaced_value_float", 0.0);
                row(Operator::Impute { replaced, by }, given[0].width)
            }
            ("ai.onnx.ml", "Normalizer") => {
                let norm = Attributes::of(node, &["norm"])?.only("norm", &["MAX", "L1", "L2"])?;
                let norm = match norm {
                    "MAX" => Norm::Max,
                    "L1" => Norm::L1,
                    _ => Norm::L2,
                };
                row(Operator::Normalize(norm), takes(1)?)
            }
            ("" | "ai.onnx", "Softmax") => {
                let axis = Attributes::of(node, &["axis"])?.int("axis", -1);
                if axis != 1 && axis != -1 {
                    return Err(format!("{} is not over the columns", called(node)));
                }
                row(Operator::Softmax, takes(1)?)
            }
            ("" | "ai.onnx", "MatMul" | "Gemm") => product(node, given),
            ("ai.onnx.ml", "LinearRegressor") => {
                let known = ["coefficients", "intercepts", "post_transform", "targets"];
                let attributes = Attributes::of(node, &known)?;
                attributes.only("post_transform", &["NONE"])?;
                if attributes.int("targets", 1) != 1 {
                    return Err(format!("{} has several targets, not one", called(node)));
                }
                linear(node, &attributes, takes(1)?, None)
            }
            ("ai.onnx.ml", "LinearClassifier") => {
                let known = [
                    "classlabels_ints",
                    "classlabels_strings",
                    "coefficients",
                    "intercepts",
                    "multi_class",
                    "post_transform",
                ];
                let attributes = Attributes::of(node, &known)?;
                zero_and_one(node, attributes.ints(known[0]), attributes.texts(known[1]))?;
                linear(node, &attributes, takes(1)?, Some(After::of(&attributes)?))
            }
            ("ai.onnx.ml", "TreeEnsembleRegressor") => {
                row(Operator::Trees(Trees::regressor(node, takes(1)?)?), 1)
            }
            ("ai.onnx.ml", "TreeEnsembleClassifier") => {
                row(Operator::Trees(Trees::classifier(node, takes(1)?)?), 2)
            }
            _ => Err(format!(
                "{} is no operator that is read here: train a model that converts to trees or to a linear one, \
                 without it, or write the artifact in the library's own format (lightgbm, xgboost)",
                called(node)
            )),
        }
    }

    /// How many of its inputs it reads row by row; from the others it has taken what it needs.
    pub fn reads(&self, inputs: usize) -> usize {
        match self {
            Operator::Pair(_) | Operator::Concat => inputs,
            _ => 1,
        }
    }

    /// Computes the numbers of one row. `from` has those of each input.
    pub fn run(&self, from: &[&[f32]], out: &mut [f32]) {
        match self {
            Operator::Trees(trees) => {
                let row: Vec<f64> = from[0].iter().map(|x| f64::from(*x)).collect();
                let scores = trees.scores(&row);
                out.copy_from_slice(&trees.after.apply(scores)[..out.len()]);
            }
            Operator::Linear { columns, classes } => {
                let scores = sums(columns, from[0]);
                match classes {
                    Some(after) => out.copy_from_slice(&after.apply(both(&scores))),
                    None => out.copy_from_slice(&scores),
                }
            }
            Operator::Each(of) => out.iter_mut().zip(from[0]).for_each(|(out, x)| *out = of(*x)),
            Operator::Pair(of) => {
                let at = |side: &[f32], i: usize| side[if side.len() == 1 { 0 } else { i }];
                for (i, out) in out.iter_mut().enumerate() {
                    *out = from[1..].iter().fold(at(from[0], i), |all, side| of(all, at(side, i)));
                }
            }
            Operator::Concat => {
                let all = from.iter().flat_map(|from| from.iter());
                out.iter_mut().zip(all).for_each(|(out, x)| *out = *x);
            }
            Operator::Pick(places) => {
                out.iter_mut().zip(places).for_each(|(out, place)| *out = from[0][*place]);
            }
            Operator::Scale { offset, scale } => {
                for (i, out) in out.iter_mut().enumerate() {
                    *out = (from[0][i] - offset[i]) * scale[i];
                }
            }
            Operator::Impute { replaced, by } => {
                for (i, out) in out.iter_mut().enumerate() {
                    let x = from[0][i];
                    let gone = if replaced.is_nan() { x.is_nan() } else { x == *replaced };
                    *out = if gone { by[i] } else { x };
                }
            }
            Operator::Normalize(norm) => normalize(*norm, from[0], out),
            Operator::Softmax => {
                let most = from[0].iter().copied().fold(f32::NEG_INFINITY, f32::max);
                out.iter_mut().zip(from[0]).for_each(|(out, x)| *out = libm::expf(x - most));
                let sum: f32 = out.iter().sum();
                out.iter_mut().for_each(|out| *out /= sum);
            }
        }
    }

    /// The log-odds that its probabilities are made of, if it is a classifier that makes them of such.
    pub fn log_odds(&self, from: &[f32]) -> Option<f64> {
        match self {
            Operator::Trees(trees) if trees.is_classifier() => {
                let row: Vec<f64> = from.iter().map(|x| f64::from(*x)).collect();
                trees.after.log_odds(trees.scores(&row))
            }
            Operator::Linear { columns, classes: Some(after) } => {
                after.log_odds(both(&sums(columns, from)))
            }
            _ => None,
        }
    }
}

/// Sums of products, in 64 bits and rounded once: ONNX Runtime adds in an order of its own.
fn sums(columns: &[(Vec<f32>, f32)], row: &[f32]) -> Vec<f32> {
    let sum = |(weights, base): &(Vec<f32>, f32)| {
        let products = weights.iter().zip(row).map(|(w, x)| f64::from(*w) * f64::from(*x));
        products.fold(f64::from(*base), |sum, x| sum + x) as f32
    };
    columns.iter().map(sum).collect()
}

/// The scores of 0 and 1; one score alone is that of 1.
fn both(scores: &[f32]) -> [f32; 2] {
    match scores {
        [zero, one] => [*zero, *one],
        _ => [-scores[0], scores[0]],
    }
}

fn normalize(norm: Norm, row: &[f32], out: &mut [f32]) {
    let by = match norm {
        Norm::Max => row.iter().copied().fold(f32::MIN, f32::max),
        Norm::L1 => row.iter().map(|x| x.abs()).sum(),
        Norm::L2 => libm::sqrtf(row.iter().map(|x| x * x).sum()),
    };
    let by = if by == 0.0 { 1.0 } else { by };
    out.iter_mut().zip(row).for_each(|(out, x)| *out = x / by);
}

/// A list of as many numbers as there are columns, or of one for all.
fn wide(node: &Node, list: &[f32], width: usize) -> Result<Vec<f32>, String> {
    match list.len() {
        1 => Ok(vec![list[0]; width]),
        n if n == width => Ok(list.to_vec()),
        n => Err(format!("{} has {n} numbers for {width} columns", called(node))),
    }
}

fn pair(node: &Node, given: &[Given]) -> Result<Option<(Operator, usize)>, String> {
    let (of, neutral): (fn(f32, f32) -> f32, _) = match node.operator.as_str() {
        "Add" | "Sum" => (|a, b| a + b, Some(0.0)),
        "Sub" => (|a, b| a - b, Some(0.0)),
        "Mul" => (|a, b| a * b, Some(1.0)),
        _ => (|a, b| a / b, Some(1.0)),
    };
    let width = given.iter().map(|given| given.width).max().unwrap_or(0);
    if given.len() < 2 || given.iter().any(|given| given.width != width && given.width != 1) {
        let widths: Vec<String> = given.iter().map(|given| given.width.to_string()).collect();
        let widths = widths.join(", ");
        return Err(format!("{} has columns that do not fit: {widths}", called(node)));
    }
    // Multiplied by one, as converters write where they have nothing to say.
    let nothing = given[1].floats.is_some_and(|all| all.iter().all(|x| Some(*x) == neutral));
    if nothing && given.len() == 2 && given[0].width == width {
        return Ok(None);
    }
    Ok(Some((Operator::Pair(of), width)))
}

fn pick(node: &Node, width: usize, at: &Given) -> Result<Option<(Operator, usize)>, String> {
    Attributes::of(node, &[])?;
    let places = at.ints.ok_or_else(|| format!("{} picks no constant places", called(node)))?;
    let place = |place: &i64| usize::try_from(*place).ok().filter(|place| *place < width);
    let places: Option<Vec<usize>> = places.iter().map(place).collect();
    let places = places.filter(|places| !places.is_empty());
    let places = places.ok_or_else(|| format!("{} picks what is not there", called(node)))?;
    let picked = places.len();
    Ok(Some((Operator::Pick(places), picked)))
}

/// A matrix of constants, by its columns.
fn product(node: &Node, given: &[Given]) -> Result<Option<(Operator, usize)>, String> {
    let attributes = match node.operator.as_str() {
        "MatMul" => Attributes::of(node, &[])?,
        _ => Attributes::of(node, &["alpha", "beta", "transA", "transB"])?,
    };
    let plain = attributes.float("alpha", 1.0) == 1.0
        && attributes.float("beta", 1.0) == 1.0
        && attributes.int("transA", 0) == 0;
    let most = if node.operator == "Gemm" { 3 } else { 2 };
    let matrix = given.get(1).and_then(|g| Some((g.floats?, g.shape)));
    let Some((values, [rows, columns])) = matrix.filter(|_| plain && given.len() <= most) else {
        return Err(format!("{} multiplies by no constant matrix", called(node)));
    };
    let (mut rows, mut columns) = (*rows as usize, *columns as usize);
    let turned = attributes.int("transB", 0) != 0;
    if turned {
        (rows, columns) = (columns, rows);
    }
    if rows != given[0].width || columns == 0 || rows.checked_mul(columns) != Some(values.len()) {
        return Err(format!("{} has {rows} rows for {} columns", called(node), given[0].width));
    }
    let base = match given.get(2) {
        None => vec![0.0; columns],
        Some(Given { floats: Some(base), .. }) => wide(node, base, columns)?,
        Some(_) => return Err(format!("{} adds no constants", called(node))),
    };
    let weight = |r: usize, c: usize| values[if turned { c * rows + r } else { r * columns + c }];
    let column = |c: usize| ((0..rows).map(|r| weight(r, c)).collect(), base[c]);
    let all = (0..columns).map(column).collect();
    Ok(Some((Operator::Linear { columns: all, classes: None }, columns)))
}

fn linear(
    node: &Node,
    given: &Attributes,
    width: usize,
    classes: Option<After>,
) -> Result<Option<(Operator, usize)>, String> {
    let (weights, bases) = (given.floats("coefficients"), given.floats("intercepts"));
    let count = weights.len() / width.max(1);
    let known = match classes {
        None => count == 1,
        // With one score for two classes only that of the logistic function has an opposite.
        Some(after) => count == 2 || (count == 1 && after == After::Logistic),
    };
    if !known || weights.len() != count * width || !(bases.is_empty() || bases.len() == count) {
        let (all, bases) = (weights.len(), bases.len());
        return Err(format!(
            "{} has {all} weights and {bases} intercepts for {width} columns",
            called(node)
        ));
    }
    let column =
        |(at, weights): (usize, &[f32])| (weights.to_vec(), bases.get(at).copied().unwrap_or(0.0));
    let columns = weights.chunks_exact(width).enumerate().map(column).collect();
    let gives = if classes.is_some() { 2 } else { 1 };
    Ok(Some((Operator::Linear { columns, classes }, gives)))
}
