//! Ensembles of trees of ai.onnx.ml, versions 1 to 3. Questions and sums are of 32 bits; NULL takes the side
//! that is learnt for it (`nodes_missing_value_tracks_true`), and no question is true of it otherwise.

use std::collections::BTreeMap;

use super::super::ensemble::{Ensemble, Missing, Node as TreeNode};
use super::super::{Inputs, Row};
use super::attributes::{Attributes, called};
use super::classes::{After, zero_and_one};
use super::messages::Node;

const NODES: [&str; 11] = [
    "nodes_falsenodeids",
    "nodes_featureids",
    "nodes_hitrates",
    "nodes_missing_value_tracks_true",
    "nodes_modes",
    "nodes_nodeids",
    "nodes_treeids",
    "nodes_truenodeids",
    "nodes_values",
    "base_values",
    "post_transform",
];

/// Trees, and what becomes of their sums.
#[derive(Debug)]
pub struct Trees {
    /// One a class that has leaves; several have the same questions and other leaves.
    sums: Vec<Ensemble>,
    base: f32,
    shape: Shape,
    /// What becomes of the two scores of a classifier.
    pub after: After,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    /// One number.
    Regressor,
    /// The score of 1; that of 0 is its negative.
    Opposite,
    /// The score of 1; that of 0 is what is missing to 1.
    Rest,
    /// A score each.
    Both,
}

impl Trees {
    /// A TreeEnsembleRegressor of one target.
    pub fn regressor(node: &Node, width: usize) -> Result<Trees, String> {
        let own = ["aggregate_function", "n_targets"];
        let weights = ["target_ids", "target_nodeids", "target_treeids", "target_weights"];
        let given = Attributes::of(node, &[&NODES[..], &own, &weights].concat())?;
        given.only("aggregate_function", &["SUM"])?;
        given.only("post_transform", &["NONE"])?;
        if given.int("n_targets", 1) != 1 || given.ints("target_ids").iter().any(|id| *id != 0) {
            return Err(format!("{} has several targets, not one", called(node)));
        }
        let forest = Listed::of(node, &given, weights)?;
        let base = given.floats("base_values");
        if base.len() > 1 {
            return Err(format!("{} has {} base values for one target", called(node), base.len()));
        }
        let sums = vec![forest.ensemble(width, 0)?];
        let base = base.first().copied().unwrap_or(0.0);
        Ok(Trees { sums, base, shape: Shape::Regressor, after: After::None })
    }

    /// A TreeEnsembleClassifier of 0 and 1.
    pub fn classifier(node: &Node, width: usize) -> Result<Trees, String> {
        let own = ["classlabels_int64s", "classlabels_strings"];
        let weights = ["class_ids", "class_nodeids", "class_treeids", "class_weights"];
        let given = Attributes::of(node, &[&NODES[..], &own, &weights].concat())?;
        zero_and_one(node, given.ints(own[0]), given.texts(own[1]))?;
        let forest = Listed::of(node, &given, weights)?;
        let ids = given.ints("class_ids");
        let base = given.floats("base_values");
        let after = After::of(&given)?;
        let one_score = ids.iter().all(|id| *id == 0);
        let positive = given.floats("class_weights").iter().all(|weight| *weight >= 0.0);
        let shape = match (one_score, after, positive) {
            (true, After::Logistic, _) => Shape::Opposite,
            (true, After::None, true) => Shape::Rest,
            (true, After::None, false) => Shape::Opposite,
            (false, ..) if forest.leaves_know(2) => Shape::Both,
            (true, After::Softmax, _) | (false, ..) => {
                let why = "has weights of one class where two are compared";
                return Err(format!(
                    "{} {why}: convert it with post_transform LOGISTIC",
                    called(node)
                ));
            }
        };
        // With scores of both classes ONNX Runtime adds them in another way than the standard says.
        if base.len() > usize::from(one_score) {
            let (why, count) = ("base values that are not one for one score a row", base.len());
            return Err(format!("{} has {count} {why}: convert it to one score", called(node)));
        }
        let base = base.first().copied().unwrap_or(0.0);
        let classes = if one_score { 1 } else { 2 };
        let sums =
            (0..classes).map(|class| forest.ensemble(width, class)).collect::<Result<_, _>>()?;
        Ok(Trees { sums, base, shape, after })
    }

    /// Whether it gives two numbers.
    pub fn is_classifier(&self) -> bool {
        self.shape != Shape::Regressor
    }

    /// The scores of 0 and 1, before anything becomes of them; those of a regressor are both its number.
    pub fn scores(&self, row: &[f64]) -> [f32; 2] {
        let sum = |of: &Ensemble| of.margin(Row { numbers: row, categories: &[] }) as f32;
        self.finish(sum(&self.sums[0]), || sum(&self.sums[1]))
    }

    /// The same for many rows, given row after row.
    pub fn scores_of_many(&self, rows: usize, numbers: &[f64]) -> Vec<[f32; 2]> {
        let all = self.sums.iter().map(|sum| {
            let mut out = Vec::with_capacity(rows);
            sum.margins(rows, numbers, &[], &mut out);
            out
        });
        let all: Vec<Vec<f64>> = all.collect();
        (0..rows).map(|r| self.finish(all[0][r] as f32, || all[1][r] as f32)).collect()
    }

    fn finish(&self, first: f32, second: impl Fn() -> f32) -> [f32; 2] {
        let first = first + self.base;
        match self.shape {
            Shape::Regressor => [first, first],
            Shape::Opposite => [-first, first],
            Shape::Rest => [1.0 - first, first],
            Shape::Both => [first, second()],
        }
    }
}

/// The nodes as they are listed, checked and put in order.
struct Listed<'a> {
    node: &'a Node,
    kinds: Vec<Kind>,
    inputs: Vec<usize>,
    thresholds: &'a [f32],
    missing: Vec<bool>,
    /// By place: where the two answers lead.
    children: Vec<(usize, usize)>,
    /// By place: the numbers of a question that was several.
    sets: BTreeMap<usize, Vec<f64>>,
    /// By place: what a leaf adds to each class.
    leaves: BTreeMap<usize, BTreeMap<usize, f32>>,
    /// Places of each tree, parents first.
    trees: Vec<Vec<usize>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Leaf,
    AtMost,
    Below,
    AtLeast,
    Above,
    Equal,
    Other,
}

impl Kind {
    fn of(word: &[u8]) -> Option<Kind> {
        Some(match word {
            b"LEAF" => Kind::Leaf,
            b"BRANCH_LEQ" => Kind::AtMost,
            b"BRANCH_LT" => Kind::Below,
            b"BRANCH_GTE" => Kind::AtLeast,
            b"BRANCH_GT" => Kind::Above,
            b"BRANCH_EQ" => Kind::Equal,
            b"BRANCH_NEQ" => Kind::Other,
            _ => return None,
        })
    }
}

impl<'a> Listed<'a> {
    fn of(
        node: &'a Node,
        given: &Attributes<'a>,
        [class, leaf_node, leaf_tree, weight]: [&str; 4],
    ) -> Result<Listed<'a>, String> {
        let broken = |why: &str| format!("{}: {why}", called(node));
        let n = given.ints("nodes_nodeids").len();
        let list = |name: &str| -> Result<&'a [i64], String> {
            let list = given.ints(name);
            (list.len() == n).then_some(list).ok_or_else(|| broken("its lists differ in length"))
        };
        let (tree_ids, ids) = (list("nodes_treeids")?, list("nodes_nodeids")?);
        let mut places = BTreeMap::new();
        for (place, key) in tree_ids.iter().zip(ids).enumerate() {
            if places.insert(key, place).is_some() {
                return Err(broken(&format!("node {} of tree {} is there twice", key.1, key.0)));
            }
        }
        let kinds = given.texts("nodes_modes").iter().map(|word| {
            Kind::of(word).ok_or_else(|| {
                broken(&format!("mode {} is not read", String::from_utf8_lossy(word)))
            })
        });
        let kinds = kinds.collect::<Result<Vec<_>, _>>()?;
        let thresholds = given.floats("nodes_values");
        if kinds.len() != n || thresholds.len() != n {
            return Err(broken("its lists differ in length"));
        }
        let input = |id: &i64| usize::try_from(*id).map_err(|_| broken("an input below 0"));
        let inputs = list("nodes_featureids")?.iter().map(input).collect::<Result<Vec<_>, _>>()?;
        let missing = match given.ints("nodes_missing_value_tracks_true") {
            [] => vec![false; n],
            _ => list("nodes_missing_value_tracks_true")?.iter().map(|side| *side != 0).collect(),
        };
        let (yes, no) = (list("nodes_truenodeids")?, list("nodes_falsenodeids")?);
        let mut children = vec![(0, 0); n];
        for at in (0..n).filter(|at| kinds[*at] != Kind::Leaf) {
            let child = |id: &i64| {
                let place = places.get(&(&tree_ids[at], id)).copied();
                place.ok_or_else(|| {
                    broken(&format!("node {} of tree {} leads nowhere", ids[at], tree_ids[at]))
                })
            };
            children[at] = (child(&yes[at])?, child(&no[at])?);
        }
        let (mut missing, mut sets) = (missing, BTreeMap::<usize, Vec<f64>>::new());
        let mut joined = vec![false; n];
        // "Is it 1? If not, is it 2?" with one node for both: converters write sets of categories so.
        for at in (0..n).filter(|at| kinds[*at] == Kind::Equal) {
            if joined[at] {
                continue;
            }
            let mut values = vec![f64::from(thresholds[at])];
            loop {
                let (yes, next) = children[at];
                let same = kinds[next] == Kind::Equal
                    && (inputs[next], children[next].0) == (inputs[at], yes)
                    && !joined[next]
                    && next != at;
                if !same {
                    break;
                }
                joined[next] = true;
                // It may have been looked at first, and be several itself.
                values.extend(sets.remove(&next).unwrap_or(vec![f64::from(thresholds[next])]));
                children[at].1 = children[next].1;
                missing[at] |= missing[next];
            }
            sets.insert(at, values);
        }
        let mut led_to = joined.clone();
        for at in (0..n).filter(|at| kinds[*at] != Kind::Leaf && !joined[*at]) {
            for child in [children[at].0, children[at].1] {
                if std::mem::replace(&mut led_to[child], true) {
                    let (node, tree) = (ids[child], tree_ids[child]);
                    return Err(broken(&format!("node {node} of tree {tree} is led to twice")));
                }
            }
        }
        // In the order in which the trees are listed, for sums of 32 bits depend on it.
        let mut trees = Vec::new();
        let mut seen = joined.iter().filter(|joined| **joined).count();
        for root in (0..n).filter(|at| !led_to[*at]) {
            let (mut tree, mut open) = (Vec::new(), vec![root]);
            while let Some(at) = open.pop() {
                tree.push(at);
                if kinds[at] != Kind::Leaf {
                    open.extend([children[at].1, children[at].0]);
                }
            }
            seen += tree.len();
            trees.push(tree);
        }
        let mut roots: Vec<i64> = trees.iter().map(|tree| tree_ids[tree[0]]).collect();
        roots.sort_unstable();
        if seen != n || trees.is_empty() || roots.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(broken("a tree has no root, or several"));
        }
        let (classes, weights) = (given.ints(class), given.floats(weight));
        let (of_trees, of_nodes) = (given.ints(leaf_tree), given.ints(leaf_node));
        if [classes.len(), of_trees.len(), of_nodes.len()] != [weights.len(); 3] {
            return Err(broken("its lists of leaves differ in length"));
        }
        let mut leaves = BTreeMap::<usize, BTreeMap<usize, f32>>::new();
        for (at, value) in weights.iter().enumerate() {
            let place = places.get(&(&of_trees[at], &of_nodes[at])).copied();
            let place = place.ok_or_else(|| broken("a weight of a leaf that is not there"))?;
            let class = usize::try_from(classes[at]).ok().filter(|class| *class < 2);
            let class =
                class.ok_or_else(|| broken(&format!("there is no class {}", classes[at])))?;
            if leaves.entry(place).or_default().insert(class, *value).is_some() {
                return Err(broken("a leaf has two weights of one class"));
            }
        }
        Ok(Listed { node, kinds, inputs, thresholds, missing, children, sets, leaves, trees })
    }

    /// Whether each leaf has weights of so many classes.
    fn leaves_know(&self, classes: usize) -> bool {
        let leaf = |at: &usize| self.kinds[*at] == Kind::Leaf;
        let mut all = self.trees.iter().flatten().filter(|at| leaf(at));
        all.all(|at| self.leaves.get(at).is_some_and(|known| known.len() == classes))
    }

    /// The sum over all trees of what leaves add to a class.
    fn ensemble(&self, width: usize, class: usize) -> Result<Ensemble, String> {
        let tree = |places: &Vec<usize>| -> Vec<TreeNode> {
            let order: BTreeMap<usize, usize> =
                places.iter().enumerate().map(|(order, place)| (*place, order)).collect();
            places.iter().map(|at| self.question(*at, class, &order)).collect()
        };
        let names = (0..width).map(|i| i.to_string()).collect();
        let inputs = Inputs { numbers: names, categories: Vec::new() };
        let trees = self.trees.iter().map(tree).collect();
        Ensemble::new(&inputs, &[], trees, 0.0, 1.0, true)
            .map_err(|why| format!("{}: {why}", called(self.node)))
    }

    fn question(&self, at: usize, class: usize, order: &BTreeMap<usize, usize>) -> TreeNode {
        let known = |class| self.leaves.get(&at).and_then(|leaf| leaf.get(&class)).copied();
        let (input, threshold) = (self.inputs[at], f64::from(self.thresholds[at]));
        let (yes, no) = self.children[at];
        let place = |child: usize| order.get(&child).copied().unwrap_or(0);
        let (yes, no, tracks) = (place(yes), place(no), self.missing[at]);
        let (missing, turned) = (Missing::Null(tracks), Missing::Null(!tracks));
        match self.kinds[at] {
            Kind::Leaf => TreeNode::Leaf(known(class).unwrap_or(0.0).into()),
            Kind::AtMost => TreeNode::AtMost { input, threshold, missing, yes, no },
            Kind::Below => TreeNode::Below { input, threshold, missing, yes, no },
            // The opposite question, its answers changed over.
            Kind::AtLeast => {
                TreeNode::Below { input, threshold, missing: turned, yes: no, no: yes }
            }
            Kind::Above => TreeNode::AtMost { input, threshold, missing: turned, yes: no, no: yes },
            Kind::Equal => {
                let mut values = self.sets.get(&at).cloned().unwrap_or_else(|| vec![threshold]);
                values.sort_by(f64::total_cmp);
                TreeNode::OneOf { input, values, missing, yes, no }
            }
            // NULL differs from every number.
            Kind::Other => {
                let (missing, values) = (Missing::Null(false), vec![threshold]);
                TreeNode::OneOf { input, values, missing, yes: no, no: yes }
            }
        }
    }
}
