//! Functions of lists and maps: those of DataFusion that give single values, or lists no longer than what they are given.

use arrow::datatypes::DataType;
use datafusion_common::{DFSchema, Result, plan_err};
use datafusion_expr::planner::{ExprPlanner, PlannerResult, RawFieldAccessExpr};
use datafusion_expr::{Expr, ExprSchemable, GetFieldAccess, ScalarUDF, lit};
use datafusion_functions::expr_fn::get_field;
use datafusion_functions_nested::expr_fn::{array_element, array_slice, make_array, map_extract};
use std::sync::Arc;

/// What is taken. Others make lists of any length, lists of lists, maps, or texts apart.
const TAKEN: &[&str] = &[
    "array_any_value",
    "array_avg",
    "array_compact",
    "array_distance",
    "array_distinct",
    "array_element",
    "array_except",
    "array_has",
    "array_has_all",
    "array_has_any",
    "array_intersect",
    "array_length",
    "array_max",
    "array_min",
    "array_normalize",
    "array_position",
    "array_reverse",
    "array_slice",
    "array_sort",
    "array_sum",
    "array_to_string",
    "cardinality",
    "cosine_distance",
    "empty",
    "inner_product",
    "make_array",
    "map_extract",
    "map_keys",
    "map_values",
];

/// The functions.
pub(super) fn functions() -> impl Iterator<Item = Arc<ScalarUDF>> {
    let all = datafusion_functions_nested::all_default_nested_functions();
    all.into_iter().filter(|function| TAKEN.contains(&function.name()))
}

/// Plans `[1, 2]`, `x[1]` and `x[1:3]` of a list, and `x['key']` of a map.
#[derive(Debug)]
pub(in crate::expression) struct Lists;

impl ExprPlanner for Lists {
    fn plan_array_literal(
        &self,
        items: Vec<Expr>,
        _: &DFSchema,
    ) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(make_array(items)))
    }

    fn plan_field_access(
        &self,
        access: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let RawFieldAccessExpr { expr, field_access } = access;
        if matches!(expr.get_type(schema)?, DataType::Map(..)) {
            return of_map(expr, field_access, schema).map(PlannerResult::Planned);
        }
        Ok(match field_access {
            GetFieldAccess::ListIndex { key } => PlannerResult::Planned(array_element(expr, *key)),
            GetFieldAccess::ListRange { start, stop, stride } => {
                PlannerResult::Planned(array_slice(expr, *start, *stop, Some(*stride)))
            }
            field_access => PlannerResult::Original(RawFieldAccessExpr { expr, field_access }),
        })
    }
}

/// What stands under a key of a map; NULL where nothing does.
fn of_map(map: Expr, access: GetFieldAccess, schema: &DFSchema) -> Result<Expr> {
    match access {
        GetFieldAccess::NamedStructField { name } => Ok(get_field(map, name)),
        GetFieldAccess::ListIndex { key } if key.get_type(schema)?.is_string() => {
            Ok(array_element(map_extract(map, *key), lit(1_i64)))
        }
        _ => plan_err!("a map is read by a text: x['key']"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_there() {
        let mut found: Vec<String> = functions().map(|f| f.name().to_string()).collect();
        found.sort();
        let missing: Vec<&&str> =
            TAKEN.iter().filter(|name| !found.iter().any(|f| f == **name)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
