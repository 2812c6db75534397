//! From syntax tree to a typed, simplified, executable expression.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use datafusion_common::config::ConfigOptions;
use datafusion_common::{DFSchema, DataFusionError, Result, TableReference, plan_err};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::planner::{ContextProvider, ExprPlanner};
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{AggregateUDF, Expr, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion_sql::sqlparser::ast;
use tidemill_types::Schema;

use super::{ExpressionError, Missing, exact, function, guarded, microseconds, suggestion, words};

/// What the SQL planner asks its surroundings: only functions; there are no tables here.
struct Functions {
    options: ConfigOptions,
    planners: Vec<Arc<dyn ExprPlanner>>,
}

static FUNCTIONS: LazyLock<Functions> = LazyLock::new(|| Functions {
    options: ConfigOptions::default(),
    planners: vec![
        Arc::new(datafusion_functions::core::planner::CoreFunctionPlanner::default()),
        Arc::new(datafusion_functions::datetime::planner::DatetimeFunctionPlanner),
        Arc::new(datafusion_functions::unicode::planner::UnicodeFunctionPlanner),
        Arc::new(function::Lists),
    ],
});

impl ContextProvider for Functions {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        plan_err!("there are no tables here, so no `{name}`")
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        function::find(&name.to_lowercase())
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, _: &str) -> Option<Arc<AggregateUDF>> {
        None
    }

    fn get_window_meta(&self, _: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _: &[String]) -> Option<arrow::datatypes::DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        function::names().map(str::to_string).collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A typed expression.
pub(super) struct Planned {
    pub(super) logical: Expr,
    pub(super) physical: Arc<dyn PhysicalExpr>,
}

/// Types, coerces and simplifies a tree over a schema.
pub(super) fn plan(
    tree: ast::Expr,
    schema: &Schema,
) -> std::result::Result<Planned, ExpressionError> {
    let names: Vec<&str> = schema.names().collect();
    match guarded(|| planned(tree, schema)) {
        Ok(Ok(planned)) => Ok(planned),
        Ok(Err(error)) => Err(explain(&error, &names)),
        Err(panic) => Err(ExpressionError::new(
            "the expression cannot be planned",
            panic,
            "write it in another way",
        )),
    }
}

fn planned(tree: ast::Expr, schema: &Schema) -> Result<Planned> {
    let arrow = schema.to_arrow();
    let df = Arc::new(DFSchema::from_unqualified_fields(arrow.fields().clone(), HashMap::new())?);
    // Columns are called as they were declared: unquoted names keep their case.
    let options = ParserOptions { enable_ident_normalization: false, ..Default::default() };
    let planner = SqlToRel::new_with_options(&*FUNCTIONS, options);
    let logical = planner.sql_to_expr(tree, &df, &mut PlannerContext::new())?;
    let context = SimplifyContext::builder().with_schema(Arc::clone(&df)).build();
    let simplifier = ExprSimplifier::new(context);
    // Not optional: without it a whole number beside a float fails when it is evaluated.
    let coerced = simplifier.coerce(microseconds::written(logical, &df)?, &df)?;
    let coerced = microseconds::coerced(coerced, &df)?;
    let logical = simplifier.simplify(exact::protect(coerced, &df)?)?;
    let physical = create_physical_expr(
        &logical,
        &df,
        &ExecutionProps::new(),
        &PhysicalPlanningContext::default(),
    )?;
    Ok(Planned { logical, physical: exact::release(physical)? })
}

/// A planner's error in our words.
fn explain(error: &DataFusionError, columns: &[&str]) -> ExpressionError {
    if let DataFusionError::External(ours) = error
        && let Some(ours) = ours.downcast_ref::<ExpressionError>()
    {
        return ours.clone();
    }
    let text = words(error);
    if let Some(rest) = text.strip_prefix("No field named ") {
        let name: String = rest.chars().take_while(|c| !matches!(c, '.' | ' ')).collect();
        let name = name.trim_matches('"');
        let error = ExpressionError::new(
            format!("there is no column `{name}`"),
            format!("the columns are {}", super::list(columns.iter().copied())),
            suggestion(name, "choose one of the columns", columns.iter().copied()),
        );
        let missing = Box::new(Missing { column: name.to_string(), window: None });
        return ExpressionError { missing: Some(missing), ..error };
    }
    if let Some(rest) = text.strip_prefix("Invalid function '") {
        let name = rest.split('\'').next().unwrap_or_default().to_lowercase();
        if function::is_volatile(&name) {
            return ExpressionError::new(
                format!("`{name}` is not allowed"),
                "its result depends on more than the row, so that a replay would not repeat it",
                "use the event time, or a column",
            );
        }
        return ExpressionError::new(
            format!("there is no function `{name}`"),
            "it is neither a scalar function nor an aggregate over a window",
            suggestion(
                &name,
                "`tidemill reference functions` lists the functions; the first are",
                function::names(),
            ),
        );
    }
    let mut reason = text.trim_end_matches('.').to_string();
    if let Some(first) = reason.get(..1) {
        reason = first.to_lowercase() + &reason[1..];
    }
    ExpressionError::new(
        "the expression has no type",
        reason,
        "convert with cast(x as type), or check the types",
    )
}
