//! Times in microseconds, as columns hold them. To DataFusion a `timestamp` is a number of nanoseconds, which ends in
//! the year 2262; and so is a time that it compares with a text or a date.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, Result};
use datafusion_expr::expr::{Between, Cast, InList, TryCast};
use datafusion_expr::{BinaryExpr, Expr, ExprSchemable};

/// Functions that take a text for a time of nanoseconds, and one of microseconds as it is.
const OF_TIMES: [&str; 2] = ["date_part", "date_trunc"];

/// A tree as it was written, with times of microseconds where casts and functions give nanoseconds.
pub(super) fn written(tree: Expr, schema: &DFSchema) -> Result<Expr> {
    let given = |node: &Expr| match node {
        Expr::ScalarFunction(_) => node.get_type(schema).ok().and_then(|found| micros(&found)),
        node => of_cast(node),
    };
    let counts = |of: &Expr| of.get_type(schema).is_ok_and(|found| found.is_numeric());
    let shortened = tree.transform_up(|node| {
        let Some(wanted) = given(&node) else { return Ok(Transformed::no(node)) };
        Ok(Transformed::yes(match node {
            Expr::Cast(cast) if !counts(&cast.expr) => Expr::Cast(Cast::new(cast.expr, wanted)),
            Expr::TryCast(cast) if !counts(&cast.expr) => {
                Expr::TryCast(TryCast::new(cast.expr, wanted))
            }
            // Numbers that are no seconds count nanoseconds, and go on doing so.
            node => Expr::Cast(Cast::new(Box::new(node), wanted)),
        }))
    })?;
    Ok(shortened.data)
}

/// A typed tree whose types were made equal: what was made nanoseconds for that is microseconds.
pub(super) fn coerced(tree: Expr, schema: &DFSchema) -> Result<Expr> {
    let is_time = |of: &Expr| matches!(of.get_type(schema), Ok(DataType::Timestamp(..)));
    let mut tree = tree.transform_up(|mut node| {
        let changed = match &mut node {
            Expr::BinaryExpr(BinaryExpr { left, right, .. }) => {
                let any = of_cast(left).or(of_cast(right)).is_some();
                any && is_time(left) && is_time(right) && shorten([&mut **left, &mut **right])
            }
            Expr::Between(Between { expr, low, high, .. }) => {
                shorten([&mut **expr, &mut **low, &mut **high])
            }
            Expr::InList(InList { expr, list, .. }) => {
                shorten(std::iter::once(&mut **expr).chain(list))
            }
            Expr::ScalarFunction(call) if OF_TIMES.contains(&call.name()) => {
                shorten(&mut call.args)
            }
            Expr::Case(case) => {
                let base = case.expr.as_deref_mut().into_iter();
                let whens = case.when_then_expr.iter_mut();
                let (whens, thens): (Vec<_>, Vec<_>) =
                    whens.map(|(w, t)| (&mut **w, &mut **t)).unzip();
                let compared = shorten(base.chain(whens));
                let otherwise = case.else_expr.as_deref_mut();
                let of_thens = thens.iter().find_map(|then| nanoseconds(then));
                let of_else = || otherwise.as_ref().and_then(|otherwise| nanoseconds(otherwise));
                let before = of_thens.or_else(of_else);
                if shorten(thens.into_iter().chain(otherwise))
                    && let Some(before) = before
                {
                    // What is around it was made equal to what it was.
                    node = Expr::Cast(Cast::new(Box::new(node), before));
                    true
                } else {
                    compared
                }
            }
            _ => false,
        };
        Ok(if changed { Transformed::yes(node) } else { Transformed::no(node) })
    })?;
    shorten([&mut tree.data]);
    Ok(tree.data)
}

/// Makes casts to nanoseconds casts to microseconds; whether there was one.
fn shorten<'a>(exprs: impl IntoIterator<Item = &'a mut Expr>) -> bool {
    let mut any = false;
    for expr in exprs {
        let Some(wanted) = of_cast(expr) else { continue };
        any = true;
        match expr {
            Expr::Cast(cast) => *cast = Cast::new(std::mem::take(&mut cast.expr), wanted),
            Expr::TryCast(cast) => *cast = TryCast::new(std::mem::take(&mut cast.expr), wanted),
            _ => {}
        }
    }
    any
}

/// The type in microseconds of a cast to nanoseconds.
fn of_cast(expr: &Expr) -> Option<DataType> {
    nanoseconds(expr).and_then(|found| micros(&found))
}

/// The type of a cast to nanoseconds.
fn nanoseconds(expr: &Expr) -> Option<DataType> {
    let found = match expr {
        Expr::Cast(cast) => cast.field.data_type(),
        Expr::TryCast(cast) => cast.field.data_type(),
        _ => return None,
    };
    micros(found).is_some().then(|| found.clone())
}

/// A time of nanoseconds as one of microseconds.
fn micros(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            Some(DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))
        }
        _ => None,
    }
}
