//! A graph as a list of steps over the numbers of one row.

use std::collections::BTreeMap;

use super::attributes::called;
use super::messages::{FLOAT, Graph, Node, Tensor, Variable};
use super::operator::{Given, Operator};

/// Numbers of a row at most, of all steps together: some 4 MB.
const MOST: usize = 1 << 20;

/// Steps, in an order in which each finds its inputs computed.
#[derive(Debug)]
pub struct Steps {
    /// The numbers of a row: inputs first, then constants, then what steps compute.
    numbers: Vec<f32>,
    steps: Vec<Step>,
    /// Where the scores are.
    out: Place,
}

#[derive(Debug)]
struct Step {
    operator: Operator,
    from: Vec<Place>,
    to: Place,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Place {
    at: usize,
    width: usize,
}

impl Place {
    fn of(self, numbers: &[f32]) -> &[f32] {
        &numbers[self.at..self.at + self.width]
    }
}

/// What is known by a name.
enum Known<'a> {
    Row(Place),
    Constant { of: &'a Tensor, floats: Vec<f32>, ints: Option<Vec<i64>> },
}

impl Known<'_> {
    fn given(&self) -> Given<'_> {
        match self {
            Known::Row(place) => Given { width: place.width, floats: None, ints: None, shape: &[] },
            Known::Constant { of, floats, ints } => Given {
                width: floats.len(),
                floats: Some(floats),
                ints: ints.as_deref(),
                shape: &of.dims,
            },
        }
    }
}

impl Steps {
    /// Reads a graph of one input of so many columns.
    pub fn of(graph: &Graph, width: usize) -> Result<Steps, String> {
        if width == 0 {
            return Err("a graph of no inputs gives the same to every row".to_string());
        }
        let mut known = BTreeMap::new();
        for of in &graph.constants {
            let (floats, ints) = (of.float_values().unwrap_or_default(), of.int_values());
            known.insert(of.name.as_str(), Known::Constant { of, floats, ints });
        }
        let inputs = graph.inputs.iter().filter(|i| !known.contains_key(i.name.as_str()));
        let inputs: Vec<&Variable> = inputs.collect();
        let [input] = inputs[..] else {
            return Err(format!(
                "the graph has {} inputs: convert it with one matrix of floats, numbers first, then categories' codes",
                inputs.len()
            ));
        };
        let columns = columns(input).ok_or("the graph's input is no matrix of 32-bit floats")?;
        // A length of 0 is one that is not said.
        if columns != 0 && columns != width as i64 {
            return Err(format!("the graph has {columns} columns, its inputs are {width}"));
        }
        known.insert(&input.name, Known::Row(Place { at: 0, width }));
        let wanted = wanted(graph)?;
        let (mut numbers, mut steps) = (vec![0.0; width], Vec::new());
        for (at, node) in graph.nodes.iter().enumerate().filter(|(at, _)| wanted.nodes[*at]) {
            let inputs = node.inputs.iter().map(|name| {
                let found = known.get(name.as_str());
                found.ok_or_else(|| format!("{} reads `{name}`, which nothing gives", called(node)))
            });
            let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
            if !inputs.iter().any(|known| matches!(known, Known::Row(_))) {
                return Err(format!("{} reads no row of numbers", called(node)));
            }
            let given: Vec<Given> = inputs.iter().map(|known| known.given()).collect();
            let read = Operator::of(node, &given)?;
            let Some((operator, width)) = read else {
                let Known::Row(place) = inputs[0] else {
                    return Err(format!("{} reads no row of numbers", called(node)));
                };
                let place = *place;
                name(&mut known, node, wanted.output[at], place)?;
                continue;
            };
            let mut from = Vec::new();
            for (known, given) in inputs.iter().take(operator.reads(inputs.len())).zip(&given) {
                from.push(match known {
                    Known::Row(place) => *place,
                    Known::Constant { floats, .. } => {
                        let rows = given.shape.split_last().map_or(&[][..], |(_, rows)| rows);
                        if floats.is_empty() || rows.iter().any(|length| *length != 1) {
                            return Err(format!(
                                "{} takes a constant that is no row",
                                called(node)
                            ));
                        }
                        let place = Place { at: numbers.len(), width: floats.len() };
                        numbers.extend(floats);
                        place
                    }
                });
            }
            let to = Place { at: numbers.len(), width };
            if numbers.len() + width > MOST {
                return Err(format!("the graph computes more than {MOST} numbers a row"));
            }
            numbers.resize(numbers.len() + width, 0.0);
            steps.push(Step { operator, from, to });
            name(&mut known, node, wanted.output[at], to)?;
        }
        let Some(Known::Row(out)) = known.get(wanted.score) else {
            return Err("nothing gives the scores of the graph".to_string());
        };
        if !(1..=2).contains(&out.width) {
            return Err(format!("the graph gives {} numbers a row, not one or two", out.width));
        }
        let out = *out;
        Ok(Steps { numbers, steps, out })
    }

    /// The last step, if it reads the inputs as they are and is the only one.
    pub fn only(&self) -> Option<&Operator> {
        match &self.steps[..] {
            [step] if step.from[0] == Place { at: 0, width: step.from[0].width } => {
                (step.to == self.out).then_some(&step.operator)
            }
            _ => None,
        }
    }

    /// What the graph gives of a row: its score, or the last of two.
    pub fn score(&self, row: &[f64]) -> Score {
        let mut numbers = self.numbers.clone();
        numbers.iter_mut().zip(row).for_each(|(to, x)| *to = *x as f32);
        for step in &self.steps {
            // What a step reads stands before what it gives.
            let (before, rest) = numbers.split_at_mut(step.to.at);
            if step.to == self.out
                && let Some(margin) = step.operator.log_odds(step.from[0].of(before))
            {
                return Score::LogOdds(margin);
            }
            let from: Vec<&[f32]> = step.from.iter().map(|place| place.of(before)).collect();
            step.operator.run(&from, &mut rest[..step.to.width]);
        }
        Score::Given(self.out.of(&numbers).last().copied().unwrap_or(f32::NAN))
    }
}

/// Gives a name to what a node computes.
fn name<'a>(
    known: &mut BTreeMap<&'a str, Known<'a>>,
    node: &'a Node,
    output: usize,
    place: Place,
) -> Result<(), String> {
    let name = node.outputs[output].as_str();
    match known.insert(name, Known::Row(place)) {
        None => Ok(()),
        Some(_) => Err(format!("{} gives `{name}`, which is there", called(node))),
    }
}

/// A row's score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Score {
    /// The log-odds that a probability is made of in the last step.
    LogOdds(f64),
    /// What the graph gives.
    Given(f32),
}

/// Columns of a matrix of floats; 0 if that is not said.
fn columns(input: &Variable) -> Option<i64> {
    let tensor = input.of.as_ref()?.tensor.as_ref().filter(|tensor| tensor.kind == FLOAT)?;
    match &tensor.shape.as_ref()?.dims[..] {
        [_, columns] => Some(columns.length),
        _ => None,
    }
}

struct Wanted<'a> {
    /// Whether the scores depend on a node.
    nodes: Vec<bool>,
    /// Which of its outputs.
    output: Vec<usize>,
    score: &'a str,
}

/// The output that has the scores, and the nodes that it needs: the label that a classifier also gives is
/// not computed.
fn wanted(graph: &Graph) -> Result<Wanted<'_>, String> {
    let scores = graph.outputs.iter().filter(|output| {
        let of = output.of.as_ref();
        of.is_some_and(|of| match &of.tensor {
            Some(tensor) => tensor.kind == FLOAT,
            None => of.sequence.is_some(),
        })
    });
    let scores: Vec<&Variable> = scores.collect();
    let [score] = scores[..] else {
        return Err(format!("the graph has {} outputs of floats, not one", scores.len()));
    };
    let mut needed: BTreeMap<&str, ()> = BTreeMap::from([(score.name.as_str(), ())]);
    let (mut nodes, mut output) = (vec![false; graph.nodes.len()], vec![0; graph.nodes.len()]);
    // Nodes stand after those whose outputs they read.
    for (at, node) in graph.nodes.iter().enumerate().rev() {
        let mut read = node.outputs.iter().enumerate();
        let Some((which, _)) = read.find(|(_, name)| needed.contains_key(name.as_str())) else {
            continue;
        };
        // Classifiers give labels first, then scores.
        let classifier =
            matches!(node.operator.as_str(), "TreeEnsembleClassifier" | "LinearClassifier");
        if which != usize::from(classifier) {
            return Err(format!("{} is asked for its output {which}", called(node)));
        }
        (nodes[at], output[at]) = (true, which);
        needed.extend(node.inputs.iter().map(|name| (name.as_str(), ())));
    }
    Ok(Wanted { nodes, output, score: &score.name })
}
