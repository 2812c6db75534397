//! What DataFusion computes otherwise than SQL does, put right around its simplifier.
//!
//! Its sums of whole numbers wrap, also where it folds constants, and it joins conditions about one
//! column as if neither the column nor a list could be NULL (`i in (1, 2) and i in (3)` is false to
//! it, NULL to SQL) and as if lists held only constants. So both go through it as calls of functions
//! that it cannot look into, and come out as what they were: no batch ever calls these.

use std::sync::{Arc, LazyLock};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::kernels::numeric::{add, mul, sub};
use arrow::datatypes::{DataType, Schema};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, DataFusionError, Result, ScalarValue};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, Like, Operator, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility, lit,
};
use datafusion_physical_expr::expressions::BinaryExpr as PhysicalBinary;
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr, create_physical_expr};

use super::{ExpressionError, function};

#[derive(Debug, PartialEq, Eq, Hash)]
struct Kept {
    kind: Kind,
    signature: Signature,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Add,
    Subtract,
    Multiply,
    /// A condition that is not joined with those beside it.
    Apart,
}

static ADD: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Kept::function(Kind::Add, 2));
static SUBTRACT: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Kept::function(Kind::Subtract, 2));
static MULTIPLY: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Kept::function(Kind::Multiply, 2));
static APART: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Kept::function(Kind::Apart, 1));

impl Kept {
    fn function(kind: Kind, arguments: usize) -> Arc<ScalarUDF> {
        let signature = Signature::any(arguments, Volatility::Immutable);
        Arc::new(ScalarUDF::from(Kept { kind, signature }))
    }
}

impl ScalarUDFImpl for Kept {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Add => "+",
            Kind::Subtract => "-",
            Kind::Multiply => "*",
            Kind::Apart => "()",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Ok(given[0].clone())
    }

    /// Called to fold constants. A sum that overflows stays, and is an error of every row.
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let result = match self.kind {
            Kind::Add => add(&arrays[0], &arrays[1])?,
            Kind::Subtract => sub(&arrays[0], &arrays[1])?,
            Kind::Multiply => mul(&arrays[0], &arrays[1])?,
            Kind::Apart => Arc::clone(&arrays[0]),
        };
        Ok(match args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?),
            false => ColumnarValue::Array(result),
        })
    }
}

/// A typed tree as the simplifier may have it.
pub(super) fn protect(tree: Expr, schema: &DFSchema) -> Result<Expr> {
    Ok(tree.transform_up(|node| protected(node, schema))?.data)
}

fn protected(node: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    Ok(Transformed::yes(match node {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            let [left, right] = [left, right].map(|side| match *side {
                Expr::BinaryExpr(BinaryExpr { op: Operator::Or, .. }) | Expr::Not(_) => {
                    call(&APART, [*side])
                }
                side => side,
            });
            left.and(right)
        }
        Expr::Not(inner) => match *inner {
            Expr::BinaryExpr(BinaryExpr { op: Operator::Or, .. }) => {
                Expr::Not(Box::new(call(&APART, [*inner])))
            }
            inner => Expr::Not(Box::new(inner)),
        },
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let function = match op {
                Operator::Plus => &ADD,
                Operator::Minus => &SUBTRACT,
                Operator::Multiply => &MULTIPLY,
                _ => return Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right }))),
            };
            // The right side first: that of a long sum is short.
            match is_whole(&right, schema)? && is_whole(&left, schema)? {
                true => call(function, [*left, *right]),
                false => Expr::BinaryExpr(BinaryExpr { left, op, right }),
            }
        }
        Expr::Negative(inner) => match is_whole(&inner, schema)? {
            true => {
                let zero = ScalarValue::new_zero(&inner.get_type(schema)?)?;
                call(&SUBTRACT, [lit(zero), *inner])
            }
            false => Expr::Negative(inner),
        },
        Expr::InList(mut list) => {
            // Few lists have a zero in them, and the others are left as they are.
            if let Some(zero) = zero(&list.expr, schema)?
                && list.list.iter().any(may_be_zero)
            {
                unsigned(&mut list.expr, &zero);
                list.list.iter_mut().for_each(|item| unsigned(item, &zero));
            }
            call(&APART, [Expr::InList(list)])
        }
        Expr::Case(mut case) => {
            if let Some(base) = &mut case.expr
                && let Some(zero) = zero(base, schema)?
            {
                unsigned(base, &zero);
                case.when_then_expr.iter_mut().for_each(|(when, _)| unsigned(when, &zero));
            }
            Expr::Case(case)
        }
        Expr::SimilarTo(pattern) => Expr::SimilarTo(whole_text(pattern)?),
        Expr::ScalarFunction(part) if part.name() == "date_part" => of_duration(part, schema)?,
        Expr::ScalarFunction(part) if part.name() == "date_trunc" => {
            Expr::ScalarFunction(of_known_part(part, schema)?)
        }
        node => return Ok(Transformed::no(node)),
    }))
}

fn call(function: &Arc<ScalarUDF>, args: impl Into<Vec<Expr>>) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(function), args.into()))
}

/// Whether its values are whole numbers. In a long sum each step asks that of all before it, and
/// the answer must not go down through them again.
fn is_whole(expr: &Expr, schema: &DFSchema) -> Result<bool> {
    if let Expr::ScalarFunction(function) = expr
        && let Some(kept) = function.func.inner().downcast_ref::<Kept>()
    {
        return Ok(kept.kind != Kind::Apart);
    }
    Ok(expr.get_type(schema)?.is_integer())
}

/// The zero of a float's type; none for others.
fn zero(expr: &Expr, schema: &DFSchema) -> Result<Option<ScalarValue>> {
    let data_type = expr.get_type(schema)?;
    data_type.is_floating().then(|| ScalarValue::new_zero(&data_type)).transpose()
}

/// Whether an item of a list of floats is none that is known to be another number.
fn may_be_zero(item: &Expr) -> bool {
    match item {
        Expr::Literal(value, _) => {
            let float = value.cast_to(&DataType::Float64);
            matches!(float, Ok(ScalarValue::Float64(Some(float))) if float == 0.0)
        }
        Expr::Cast(cast) => may_be_zero(&cast.expr),
        _ => true,
    }
}

/// Makes 0 of -0.0, which are one to SQL; CASE and lists compare their bits.
fn unsigned(expr: &mut Expr, zero: &ScalarValue) {
    *expr = std::mem::take(expr) + lit(zero.clone());
}

/// DataFusion's parts of a duration are neither those of an interval nor whole: its hours do not
/// begin anew every day, and its seconds since 1970 lose fractions and end in 2038.
fn of_duration(mut function: ScalarFunction, schema: &DFSchema) -> Result<Expr> {
    let [Expr::Literal(part, _), of] = function.args.as_slice() else {
        return Ok(Expr::ScalarFunction(function));
    };
    if !matches!(of.get_type(schema)?, DataType::Duration(_)) {
        return Ok(Expr::ScalarFunction(of_known_part(function, schema)?));
    }
    let part = part.try_as_str().flatten().unwrap_or_default().to_lowercase();
    match (part.as_str(), function::find("epoch"), function.args.pop()) {
        ("epoch", Some(epoch), Some(of)) => Ok(call(&epoch, [of])),
        _ => Err(DataFusionError::External(Box::new(ExpressionError::new(
            format!("a duration has no part `{part}`"),
            "a duration is one length of time, not so many days, hours and minutes",
            "take it in seconds, date_part('epoch', ...), or use minutes_between(a, b), hours_between \
             and days_between",
        )))),
    }
}

/// What `date_part` and `date_trunc` know by these names, and by others that mean the same.
const PARTS: &str = "year, isoyear, quarter, month, week, day, doy, dow, isodow, hour, minute, second, \
                     millisecond, microsecond, nanosecond and epoch";
const LENGTHS: &str =
    "year, quarter, month, week, day, hour, minute, second, millisecond and microsecond";

/// A part that the function does not know is an error of every row: it is found by trying one.
fn of_known_part(function: ScalarFunction, schema: &DFSchema) -> Result<ScalarFunction> {
    let [part, of] = function.args.as_slice() else { return Ok(function) };
    let (name, known) = match function.name() {
        "date_part" => ("date_part", PARTS),
        _ => ("date_trunc", LENGTHS),
    };
    let why = match part {
        Expr::Literal(text, _) => match ScalarValue::new_zero(&of.get_type(schema)?) {
            Ok(time) if !evaluates(&call(&function.func, [part.clone(), lit(time.clone())]))? => {
                let text = text.try_as_str().flatten().unwrap_or_default().to_lowercase();
                format!("{name} knows no `{text}`")
            }
            _ => return Ok(function),
        },
        part if part.column_refs().is_empty() => return Ok(function),
        part => format!("{name} takes a part that is a constant, and `{part}` is none"),
    };
    Err(DataFusionError::External(Box::new(ExpressionError::new(
        why,
        format!("it knows {known}"),
        "write one of these as a text; date_part('year', x) / 10 is a decade",
    ))))
}

/// Whether a call of constants has a value.
fn evaluates(call: &Expr) -> Result<bool> {
    let context = (ExecutionProps::new(), PhysicalPlanningContext::default());
    let physical = create_physical_expr(call, &DFSchema::empty(), &context.0, &context.1)?;
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)?;
    Ok(physical.evaluate(&row).is_ok())
}

/// DataFusion takes the pattern of `similar to` for a regular expression that may match anywhere.
fn whole_text(mut like: Like) -> Result<Like> {
    let mut pattern = &mut *like.pattern;
    while let Expr::Cast(cast) = pattern {
        pattern = &mut *cast.expr;
    }
    let Expr::Literal(value, _) = &*pattern else {
        return Err(DataFusionError::External(Box::new(ExpressionError::new(
            "the pattern of `similar to` is no constant",
            "it is made a regular expression beforehand",
            "write the pattern as a text, or use `like`, whose pattern may be a column",
        ))));
    };
    if let Some(text) = value.try_as_str().flatten() {
        *pattern = lit(regular(text));
    }
    Ok(like)
}

/// A pattern of `similar to` as a regular expression: `%` is any text, `_` any character, and what
/// else means something only to regular expressions is itself.
fn regular(pattern: &str) -> String {
    let mut regular = String::from(r"\A(?s:");
    let mut in_set = false;
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => {
                let meant = characters.next().unwrap_or('\\');
                if !meant.is_alphanumeric() {
                    regular.push('\\');
                }
                regular.push(meant);
            }
            '[' if !in_set => {
                in_set = true;
                regular.push(c);
            }
            ']' if in_set => {
                in_set = false;
                regular.push(c);
            }
            '&' | '~' | '[' if in_set => regular.extend(['\\', c]),
            c if in_set => regular.push(c),
            '%' => regular.push_str(".*"),
            '_' => regular.push('.'),
            '(' => regular.push_str("(?:"),
            '.' | '^' | '$' => regular.extend(['\\', c]),
            c => regular.push(c),
        }
    }
    regular + r")\z"
}

/// What [`protect`] kept, as what it was: sums that fail where they overflow, and conditions.
pub(super) fn release(tree: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    let released = tree.transform_up(|node| {
        let Some(call) = node.downcast_ref::<ScalarFunctionExpr>() else {
            return Ok(Transformed::no(node));
        };
        let (Some(kept), args) = (call.fun().inner().downcast_ref::<Kept>(), call.args()) else {
            return Ok(Transformed::no(node));
        };
        let op = match kept.kind {
            Kind::Add => Operator::Plus,
            Kind::Subtract => Operator::Minus,
            Kind::Multiply => Operator::Multiply,
            Kind::Apart => return Ok(Transformed::yes(Arc::clone(&args[0]))),
        };
        let sum = PhysicalBinary::new(Arc::clone(&args[0]), op, Arc::clone(&args[1]));
        Ok(Transformed::yes(Arc::new(sum.with_fail_on_overflow(true)) as Arc<dyn PhysicalExpr>))
    })?;
    Ok(released.data)
}
