//! Features: scalars in which calls over windows may stand. The calls are cut out of the tree and
//! come back as columns.

use std::ops::{ControlFlow, Range};

use datafusion_sql::sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, ObjectName, Spanned, Visit, VisitMut, Visitor, VisitorMut,
    WindowType,
};
use datafusion_sql::sqlparser::tokenizer::Span;
use tidemill_types::{DataType, Field, Schema, Value};

use super::parse::{self, Source};
use super::plan::plan;
use super::{ExpressionError, Scalar, suggestion};
use crate::aggregate::{AGGREGATES, Unnest, is_known};

/// What a call's column is called; no user's column can be.
const CALL: &str = "__call_";

/// A call over a window.
#[derive(Clone, Debug)]
pub struct Call {
    /// The aggregate as written, lower case.
    pub function: String,
    /// `count(distinct x)`
    pub distinct: bool,
    /// The first argument, over the window's source; none for `count(*)`.
    pub argument: Option<Scalar>,
    /// The second argument where it is no constant, over the window's source.
    pub second: Option<Scalar>,
    /// Further arguments.
    pub constants: Vec<Value>,
    /// Which argument's items the call is over: `sum(unnest(x))`. The argument is the list.
    pub unnest: Unnest,
    /// `FILTER (WHERE ...)`, over the window's source.
    pub filter: Option<Scalar>,
    /// The window.
    pub window: String,
    /// Bytes of the feature's text.
    pub span: Range<usize>,
}

/// A feature whose calls are known and whose own type is not yet.
#[derive(Clone, Debug)]
pub struct Feature {
    /// The calls, in the order in which they stand; equal ones once.
    pub calls: Vec<Call>,
    text: String,
    tree: Expr,
    ratios: Vec<Ratio>,
}

/// Where a `ratio` stood, and the window of its sums.
#[derive(Clone, Debug)]
struct Ratio {
    window: String,
    span: Option<Range<usize>>,
}

/// Reads a feature. `source_of` gives the columns of a window's source.
///
/// # Errors
/// Whatever is no feature over these columns and windows.
pub fn parse_feature(
    text: &str,
    spine: &Schema,
    source_of: &dyn Fn(&str) -> Option<Schema>,
    windows: &[&str],
    timezone: &str,
) -> Result<Feature, ExpressionError> {
    let (mut tree, source) = parse::parse(text)?;
    let mut cut = Cut {
        source: &source,
        source_of,
        windows,
        timezone,
        calls: Vec::new(),
        keys: Vec::new(),
        ratios: Vec::new(),
    };
    if let ControlFlow::Break(error) = VisitMut::visit(&mut tree, &mut cut) {
        return Err(error);
    }
    if let Some(field) = spine.fields.iter().find(|f| f.name.starts_with(CALL)) {
        return Err(ExpressionError::new(
            format!("a column cannot be called `{}`", field.name),
            format!("names that begin with `{CALL}` are taken"),
            "rename the column",
        ));
    }
    Ok(Feature { calls: cut.calls, text: text.to_string(), tree, ratios: cut.ratios })
}

impl Feature {
    /// Types the feature over the spine's columns followed by one column a call.
    ///
    /// # Errors
    /// What does not fit together.
    pub fn finish(
        self,
        spine: &Schema,
        call_types: &[DataType],
    ) -> Result<Scalar, ExpressionError> {
        for ratio in self.ratios {
            let of = |call: &Call| call.function == "sum" && call.window == ratio.window;
            let mut types = self.calls.iter().zip(call_types).filter(|(call, _)| of(call));
            if types.any(|(_, data_type)| data_type.is_nested()) {
                return Err(no_quotient(&ratio.window).at(ratio.span));
            }
        }
        let mut schema = spine.clone();
        for (n, data_type) in call_types.iter().enumerate() {
            schema.fields.push(Field::new(format!("{CALL}{n}"), *data_type));
        }
        let planned = plan(self.tree, &schema).map_err(|error| without_over(error, &self.text))?;
        Scalar::of(&self.text, planned, &schema)
    }
}

fn no_quotient(window: &str) -> ExpressionError {
    refused(
        "ratio",
        &format!("each sum over `{window}` is a list or a map, of which there is no quotient"),
        "take it over a window without `series` and `secondary`, or sum(x) and sum(y) as two features",
    )
}

/// An aggregate without a window looks like an unknown function: say what is missing.
fn without_over(error: ExpressionError, text: &str) -> ExpressionError {
    let named = |name: &str| error.message == format!("there is no function `{name}`");
    let aggregate = AGGREGATES
        .iter()
        .flat_map(|a| std::iter::once(a.name).chain(a.aliases.iter().copied()))
        .find(|name| named(name));
    match aggregate {
        Some(name) => {
            // Not by lower case: that may have other lengths, and the place would be another.
            let mut places = text.char_indices().map(|(at, _)| at..at + name.len());
            let written = |at: &Range<usize>| {
                text.get(at.clone()).is_some_and(|found| found.eq_ignore_ascii_case(name))
            };
            let at = places.find(written);
            ExpressionError::new(
                format!("`{name}` needs a window"),
                "an aggregate sees the rows of a window, not of the row itself",
                format!("write {name}(...) over WINDOW, and name the window under [windows]"),
            )
            .at(at)
        }
        None => error,
    }
}

/// Cuts calls out of a tree.
struct Cut<'a> {
    source: &'a Source,
    source_of: &'a dyn Fn(&str) -> Option<Schema>,
    windows: &'a [&'a str],
    timezone: &'a str,
    calls: Vec<Call>,
    keys: Vec<String>,
    ratios: Vec<Ratio>,
}

impl VisitorMut for Cut<'_> {
    type Break = ExpressionError;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<ExpressionError> {
        if matches!(expr, Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. }) {
            return ControlFlow::Break(ExpressionError::new(
                "there are no subqueries here",
                "a feature is computed from one row and its windows",
                "use a window over the other source",
            ));
        }
        let Expr::Function(function) = &*expr else { return ControlFlow::Continue(()) };
        if is_unnest(expr) {
            return ControlFlow::Break(at(misplaced(), self.source.range_of(expr)));
        }
        if function.over.is_none() {
            return ControlFlow::Continue(());
        }
        let span = self.source.range_of(expr);
        if function.name.to_string().eq_ignore_ascii_case("ratio") {
            return match ratio(function) {
                Ok(quotient) => {
                    // A window that cannot be told is an error of the sums.
                    if let Ok(window) = self.window(function) {
                        self.ratios.push(Ratio { window, span });
                    }
                    *expr = quotient;
                    ControlFlow::Continue(())
                }
                Err(error) => ControlFlow::Break(at(error, span)),
            };
        }
        let key = function.to_string();
        let n = match self.keys.iter().position(|known| *known == key) {
            Some(n) => n,
            None => match self.call(function, span.clone().unwrap_or(0..0)) {
                Ok(call) => {
                    self.keys.push(key);
                    self.calls.push(call);
                    self.calls.len() - 1
                }
                Err(error) => return ControlFlow::Break(at(error, span)),
            },
        };
        *expr = Expr::Identifier(Ident::with_quote('"', format!("{CALL}{n}")));
        ControlFlow::Continue(())
    }
}

/// An error without a place of its own stands at the call.
fn at(mut error: ExpressionError, span: Option<Range<usize>>) -> ExpressionError {
    error.span = error.span.or(span);
    error
}

impl Cut<'_> {
    fn call(&self, function: &Function, span: Range<usize>) -> Result<Call, ExpressionError> {
        let window = self.window(function)?;
        self.call_over(window.clone(), function, span).map_err(|mut error| {
            error.missing.iter_mut().for_each(|missing| missing.window = Some(window.clone()));
            error
        })
    }

    fn call_over(
        &self,
        window: String,
        function: &Function,
        span: Range<usize>,
    ) -> Result<Call, ExpressionError> {
        let name = function.name.to_string().to_lowercase();
        let schema = (self.source_of)(&window).ok_or_else(|| {
            ExpressionError::new(
                format!("there is no window `{window}`"),
                format!("the windows are {}", super::list(self.windows.iter().copied())),
                suggestion(&window, "choose one of the windows", self.windows.iter().copied()),
            )
        })?;
        let (name, conditional) = match conditional(&name) {
            Some(inner) => (inner.to_string(), true),
            None => (name, false),
        };
        if !is_known(&name) {
            let names: Vec<&str> = AGGREGATES.iter().map(|a| a.name).collect();
            return Err(ExpressionError::new(
                format!("there is no aggregate `{name}`"),
                format!("the aggregates are {}", names.join(", ")),
                suggestion(&name, "choose one of the aggregates", names.iter().copied()),
            ));
        }
        let FunctionArguments::List(list) = &function.args else {
            return Err(refused(&name, "it has no arguments", "write it as name(column)"));
        };
        if !list.clauses.is_empty() || !function.within_group.is_empty() {
            return Err(refused(
                &name,
                "ORDER BY and WITHIN GROUP have no meaning here: a window is in event-time order",
                "for a percentile write quantile(x, 0.9)",
            ));
        }
        let mut arguments = Vec::new();
        for argument in &list.args {
            match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => arguments.push(expr.clone()),
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard) if list.args.len() == 1 => {}
                _ => return Err(refused(&name, "this argument has no meaning here", "remove it")),
            }
        }
        let mut filter = function.filter.as_deref().cloned();
        if conditional {
            filter = Some(condition(&name, &mut arguments, filter)?);
        }
        let unnest = unnested(&name, &mut arguments)?;
        let mut arguments = arguments.into_iter();
        let argument = arguments.next().map(|tree| self.scalar(tree, &schema)).transpose()?;
        let (mut second, mut constants) = (None, Vec::new());
        for (n, tree) in arguments.enumerate() {
            let scalar = self.scalar(tree, &schema)?;
            match scalar.literal() {
                Some(constant) => constants.push(constant.clone()),
                None if n == 0 => second = Some(scalar),
                None => {
                    return Err(refused(
                        &name,
                        "only the first two arguments may be columns",
                        "write a constant",
                    ));
                }
            }
        }
        let filter = match filter {
            Some(tree) => {
                let scalar = self.scalar(tree, &schema)?;
                if scalar.data_type() != DataType::Bool {
                    return Err(refused(&name, "its FILTER is no condition", "write a comparison"));
                }
                Some(scalar)
            }
            None => None,
        };
        let distinct = matches!(list.duplicate_treatment, Some(DuplicateTreatment::Distinct));
        let function = name;
        Ok(Call { function, distinct, argument, second, constants, unnest, filter, window, span })
    }

    fn window(&self, function: &Function) -> Result<String, ExpressionError> {
        let named = |spec: &Option<Ident>| spec.as_ref().map(|name| name.value.clone());
        let name = match &function.over {
            Some(WindowType::NamedWindow(name)) => Some(name.value.clone()),
            Some(WindowType::WindowSpec(spec))
                if spec.partition_by.is_empty()
                    && spec.order_by.is_empty()
                    && spec.window_frame.is_none() =>
            {
                named(&spec.window_name)
            }
            _ => None,
        };
        name.ok_or_else(|| {
            ExpressionError::new(
                "a window is named, not described",
                "windows are shared by features, so they stand in a table of their own",
                "name it under [windows] and write over NAME",
            )
        })
    }

    fn scalar(&self, tree: Expr, schema: &Schema) -> Result<Scalar, ExpressionError> {
        if let ControlFlow::Break(error) = Visit::visit(&tree, &mut Nested) {
            return Err(error);
        }
        let text = tree.to_string();
        let planned = plan(tree, schema)?;
        let _ = self.timezone;
        Scalar::of(&text, planned, schema)
    }
}

/// The aggregate of `NAME_if` and `NAME_where`, whose condition is an argument.
fn conditional(name: &str) -> Option<&str> {
    let inner = name.strip_suffix("_if").or_else(|| name.strip_suffix("_where"))?;
    (!is_known(name) && is_known(inner)).then_some(inner)
}

/// Takes the condition out of the arguments: the second, or the only one.
fn condition(
    name: &str,
    arguments: &mut Vec<Expr>,
    filter: Option<Expr>,
) -> Result<Expr, ExpressionError> {
    if filter.is_some() {
        return Err(refused(name, "it has two conditions", "join them with `and`"));
    }
    match arguments.len() {
        0 => Err(refused(name, "it has no condition", "write it as name_if(column, condition)")),
        1 => Ok(arguments.remove(0)),
        _ => Ok(arguments.remove(1)),
    }
}

/// Whether this is `unnest(...)` by itself.
fn is_unnest(expr: &Expr) -> bool {
    let Expr::Function(function) = expr else { return false };
    function.over.is_none() && function.name.to_string().eq_ignore_ascii_case("unnest")
}

fn misplaced() -> ExpressionError {
    ExpressionError::new(
        "`unnest` stands alone as an argument of an aggregate",
        "it makes many values of one, and only an aggregate over a window takes these",
        "write sum(unnest(column)) over WINDOW; of a list itself, cardinality, array_max and others",
    )
}

/// Puts a list in the place of `unnest(list)`; says which argument that was.
fn unnested(name: &str, arguments: &mut [Expr]) -> Result<Unnest, ExpressionError> {
    let mut found = Unnest::No;
    for (n, argument) in arguments.iter_mut().enumerate() {
        let Expr::Function(function) = &*argument else { continue };
        if !is_unnest(argument) {
            continue;
        }
        let FunctionArguments::List(list) = &function.args else { continue };
        let [FunctionArg::Unnamed(FunctionArgExpr::Expr(of))] = list.args.as_slice() else {
            return Err(refused(name, "unnest takes one list", "write it as unnest(column)"));
        };
        found = match (n, found) {
            (0, Unnest::No) => Unnest::First,
            (1, Unnest::No) => Unnest::Second,
            _ => {
                return Err(refused(
                    name,
                    "only one of the first two arguments may be taken apart into its items",
                    "leave one unnest out",
                ));
            }
        };
        *argument = of.clone();
    }
    Ok(found)
}

/// `ratio(x, y)`: a quotient of two sums under the same filter over the same window.
fn ratio(function: &Function) -> Result<Expr, ExpressionError> {
    let wrong = || refused("ratio", "it takes two columns", "write it as ratio(x, y)");
    let FunctionArguments::List(list) = &function.args else { return Err(wrong()) };
    let ([x, y], true) = (list.args.as_slice(), list.duplicate_treatment.is_none()) else {
        return Err(wrong());
    };
    let sum = |of: &FunctionArg| {
        let mut sum = function.clone();
        let name = function.name.0.first().map_or_else(Span::empty, |part| part.span());
        sum.name = ObjectName::from(vec![Ident::with_span(name, "sum")]);
        sum.args = FunctionArguments::List(FunctionArgumentList {
            args: vec![of.clone()],
            ..list.clone()
        });
        Expr::Function(sum)
    };
    let (mut quotient, _) =
        parse::parse("cast(x as double precision) / nullif(cast(y as double precision), 0)")?;
    let mut sums = Fill(vec![sum(y), sum(x)]);
    let _: ControlFlow<()> = VisitMut::visit(&mut quotient, &mut sums);
    Ok(quotient)
}

/// Puts trees in the places of names, the last one first. What was put in is not looked through.
struct Fill(Vec<Expr>);

impl VisitorMut for Fill {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if matches!(expr, Expr::Identifier(_)) {
            match self.0.pop() {
                Some(part) => *expr = part,
                None => return ControlFlow::Break(()),
            }
        }
        ControlFlow::Continue(())
    }
}

fn refused(name: &str, reason: &str, help: &str) -> ExpressionError {
    ExpressionError::new(format!("`{name}` cannot be called like this"), reason, help)
}

/// Finds what cannot stand within an argument: calls over windows, and `unnest`.
struct Nested;

impl Visitor for Nested {
    type Break = ExpressionError;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<ExpressionError> {
        match expr {
            Expr::Function(function) if function.over.is_some() => {
                ControlFlow::Break(ExpressionError::new(
                    "a call over a window cannot stand inside another",
                    "the inner one has no value for the rows of the outer one's window",
                    "compute the inner one as a column of the source, or split the feature",
                ))
            }
            _ if is_unnest(expr) => ControlFlow::Break(misplaced()),
            _ => ControlFlow::Continue(()),
        }
    }
}
