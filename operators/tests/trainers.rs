//! Laws of all trainers and of the predictors that read their artifacts, and what is special to each.

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tidemill_config::plan::At;
use tidemill_config::section::{Item, Node, Section};
use tidemill_operators::predictor::{self, Inputs, PREDICTORS, Predictor, Row, probability};
use tidemill_operators::trainer::{Entry, TRAINERS, Trained, TrainingSet};
use tidemill_types::key::category;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Rows whose label depends on the product of `x` and `y` and on the parity of a category of 40
/// values. A tenth of `gappy` and of the category is NULL; the label is likelier where `gappy` is.
fn interactions(rows: usize, seed: u64) -> TrainingSet {
    let mut random = Random(seed);
    let inputs = Inputs {
        numbers: ["x", "y", "gappy", "constant"].map(String::from).to_vec(),
        categories: vec!["place".into()],
    };
    let mut set = TrainingSet { inputs, numbers: vec![vec![]; 4], ..TrainingSet::default() };
    set.categories.push(Vec::new());
    for _ in 0..rows {
        let (x, y) = (2.0 * random.uniform() - 1.0, 2.0 * random.uniform() - 1.0);
        let gappy = if random.uniform() < 0.1 { f64::NAN } else { random.uniform() };
        let place = (random.uniform() * 40.0) as u64;
        let margin = 2.0 * (x * y).signum()
            + if place.is_multiple_of(2) { 1.0 } else { -1.0 }
            + if gappy.is_nan() { 1.5 } else { 0.0 };
        set.labels.push(f64::from(u8::from(random.uniform() < probability(margin))));
        for (column, value) in set.numbers.iter_mut().zip([x, y, gappy, 4.0]) {
            column.push(value);
        }
        let hash = if random.uniform() < 0.1 { 0 } else { category(&format!("place {place}")) };
        set.categories[0].push(hash);
    }
    set
}

fn rows_of(set: &TrainingSet) -> (Vec<f64>, Vec<u64>) {
    let rows = 0..set.labels.len();
    let numbers = rows.clone().flat_map(|i| set.numbers.iter().map(move |c| c[i])).collect();
    (numbers, rows.flat_map(|i| set.categories.iter().map(move |c| c[i])).collect())
}

fn margins(predictor: &dyn Predictor, set: &TrainingSet) -> Vec<f64> {
    let (numbers, categories) = rows_of(set);
    let mut out = Vec::new();
    predictor.margins(set.labels.len(), &numbers, &categories, &mut out);
    out
}

fn log_loss(margins: &[f64], labels: &[f64]) -> f64 {
    let one = |(m, y): (&f64, &f64)| -probability(if *y == 1.0 { *m } else { -*m }).ln();
    margins.iter().zip(labels).map(one).sum::<f64>() / labels.len() as f64
}

fn defaults(entry: &Entry) -> Json {
    (entry.parameters)(&Section::bare(entry.name)).expect("a section without keys is complete")
}

/// Trainers of the Python package are tried in `tests/training.rs` of the program.
fn in_rust() -> impl Iterator<Item = &'static Entry> {
    TRAINERS.iter().filter(|entry| entry.train.is_some())
}

fn run(entry: &Entry) -> tidemill_operators::trainer::Train {
    entry.train.expect("a trainer in Rust")
}

fn train(entry: &Entry, set: &TrainingSet, parameters: &Json, threads: usize) -> Trained {
    run(entry)(set, parameters, 7, threads).expect("the set is sound")
}

fn load(name: &str, bytes: &[u8], inputs: &Inputs) -> Result<Box<dyn Predictor>, String> {
    let entry = PREDICTORS.iter().find(|p| p.name == name).expect("each trainer has a predictor");
    (entry.load)(bytes, inputs)
}

fn metric(trained: &Trained, name: &str) -> f64 {
    trained.metrics.iter().find(|(key, _)| key == name).map(|(_, value)| *value).expect("a metric")
}

// Laws of every trainer and its predictor.

#[test]
fn the_same_set_gives_the_same_bytes_for_any_number_of_threads() {
    let set = interactions(6_000, 1);
    for entry in in_rust() {
        let parameters = defaults(entry);
        let once = train(entry, &set, &parameters, 1);
        for threads in [1, 2, 5] {
            let again = train(entry, &set, &parameters, threads);
            assert_eq!(once.bytes, again.bytes, "{} on {threads} threads", entry.name);
            assert_eq!(once.metrics, again.metrics, "{} on {threads} threads", entry.name);
        }
    }
}

#[test]
fn many_rows_score_as_each_alone() {
    let (set, fresh) = (interactions(4_000, 1), interactions(1_003, 2));
    for entry in in_rust() {
        let trained = train(entry, &set, &defaults(entry), 1);
        let predictor = load(entry.name, &trained.bytes, &set.inputs).expect("its own artifact");
        let (numbers, categories) = rows_of(&fresh);
        let together = margins(&*predictor, &fresh);
        assert_eq!(together.len(), 1_003);
        for (i, (n, c)) in numbers.chunks(4).zip(categories.chunks(1)).enumerate() {
            let alone = predictor.margin(Row { numbers: n, categories: c });
            assert_eq!(alone.to_bits(), together[i].to_bits(), "{} row {i}", entry.name);
        }
    }
}

#[test]
fn what_was_learnt_holds_for_new_rows() {
    let (set, fresh) = (interactions(8_000, 1), interactions(8_000, 2));
    let positive = fresh.labels.iter().sum::<f64>() / 8_000.0;
    let prior = vec![(positive / (1.0 - positive)).ln(); 8_000];
    for entry in in_rust() {
        let trained = train(entry, &set, &defaults(entry), 2);
        let predictor = load(entry.name, &trained.bytes, &set.inputs).expect("its own artifact");
        let loss = log_loss(&margins(&*predictor, &fresh), &fresh.labels);
        assert!(loss < log_loss(&prior, &fresh.labels) - 0.01, "{}: {loss}", entry.name);
    }
}

#[test]
fn an_artifact_is_read_only_whole_and_for_its_own_inputs() {
    let set = interactions(1_000, 1);
    for entry in in_rust() {
        let bytes = train(entry, &set, &defaults(entry), 1).bytes;
        let refused = |bytes: &[u8], inputs: &Inputs| load(entry.name, bytes, inputs).is_err();
        assert!(!refused(&bytes, &set.inputs), "{}", entry.name);

        let mut swapped = set.inputs.clone();
        swapped.numbers.swap(0, 1);
        let mut fewer = set.inputs.clone();
        fewer.categories.clear();
        assert!(refused(&bytes, &swapped) && refused(&bytes, &fewer), "{}", entry.name);

        for length in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            assert!(refused(&bytes[..length], &set.inputs), "{} cut at {length}", entry.name);
        }
        for at in (0..bytes.len()).step_by(bytes.len() / 200 + 1) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(refused(&flipped, &set.inputs), "{} flipped at {at}", entry.name);
        }
    }
}

#[test]
fn a_key_nobody_asked_for_is_refused_with_all_others() {
    for entry in in_rust() {
        let mut section = Section::bare(entry.name);
        for key in ["no_such_key", "nor_this"] {
            let value = Node { value: Item::Int(1), span: 10..12 };
            section.keys.push((At { value: key.into(), span: 3..8 }, value));
        }
        let errors = (entry.parameters)(&section).expect_err("both are unknown");
        assert_eq!(errors.len(), 2, "{}: {errors:?}", entry.name);
        assert_eq!(errors[0].span, 3..8);
    }
}

#[test]
fn sets_that_cannot_be_learnt_are_refused() {
    let sound = interactions(50, 1);
    for entry in in_rust() {
        let refused = |set: &TrainingSet| run(entry)(set, &defaults(entry), 1, 1).is_err();
        assert!(refused(&interactions(0, 1)), "{}: no rows", entry.name);
        let mut set = sound.clone();
        set.labels[3] = 0.5;
        assert!(refused(&set), "{}: a label of one half", entry.name);
        let mut set = sound.clone();
        set.numbers[1].pop();
        assert!(refused(&set), "{}: a short column", entry.name);
        let mut set = sound.clone();
        set.categories.clear();
        assert!(refused(&set), "{}: a missing column", entry.name);
    }
}

#[test]
fn a_set_without_inputs_gives_the_share_of_its_labels() {
    let mut set = TrainingSet { labels: vec![0.0; 3_000], ..TrainingSet::default() };
    set.labels[..750].fill(1.0);
    for entry in in_rust() {
        let trained = train(entry, &set, &defaults(entry), 1);
        let predictor = load(entry.name, &trained.bytes, &set.inputs).expect("its artifact");
        let mut out = Vec::new();
        predictor.margins(20, &[], &[], &mut out);
        assert_eq!(out.len(), 20);
        assert!(out.iter().all(|m| (probability(*m) - 0.25).abs() < 1e-3), "{}", entry.name);
    }
}

#[test]
fn labels_of_one_kind_and_tiny_sets_give_a_sober_model() {
    for entry in in_rust() {
        for (rows, label) in [(1, None), (2, None), (9, None), (500, Some(0.0)), (500, Some(1.0))] {
            let mut set = interactions(rows, 3);
            if let Some(label) = label {
                set.labels.fill(label);
            }
            let trained = train(entry, &set, &defaults(entry), 2);
            let predictor = load(entry.name, &trained.bytes, &set.inputs).expect("its artifact");
            for margin in margins(&*predictor, &set) {
                assert!(margin.is_finite(), "{} {rows} rows: {margin}", entry.name);
                assert!(label.is_none_or(|y| (margin > 0.0) == (y == 1.0)), "{}", entry.name);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_row_has_a_margin_of_nan(
        numbers in proptest::collection::vec(proptest::num::f64::ANY, 4),
        place in any::<u64>(),
    ) {
        for entry in in_rust() {
            let set = interactions(500, 1);
            let trained = train(entry, &set, &defaults(entry), 1);
            let predictor = load(entry.name, &trained.bytes, &set.inputs).expect("its artifact");
            let margin = predictor.margin(Row { numbers: &numbers, categories: &[place] });
            prop_assert!(!margin.is_nan(), "{}", entry.name);
        }
    }
}

// Gradient boosting.

fn boosting() -> &'static Entry {
    TRAINERS.iter().find(|t| t.name == "gradient_boosting").expect("it is in the list")
}

fn boosted(set: &TrainingSet, parameters: Json) -> (Box<dyn Predictor>, Trained) {
    let trained = train(boosting(), set, &parameters, 1);
    let predictor = load("gradient_boosting", &trained.bytes, &set.inputs).expect("its artifact");
    (predictor, trained)
}

#[test]
fn each_tree_lowers_the_loss_on_its_own_rows() {
    let set = interactions(5_000, 1);
    let loss = |trees: usize| {
        let parameters = json!({"trees": trees, "min_rows_per_leaf": 20});
        let (predictor, trained) = boosted(&set, parameters);
        let loss = log_loss(&margins(&*predictor, &set), &set.labels);
        // The margins that training kept are those that scoring gives.
        assert!((loss - metric(&trained, "log_loss")).abs() < 1e-12);
        loss
    };
    let losses: Vec<f64> = (1..=25).map(loss).collect();
    assert!(losses.windows(2).all(|pair| pair[1] < pair[0]), "{losses:?}");
}

#[test]
fn interactions_beat_a_linear_fit() {
    let (set, fresh) = (interactions(8_000, 1), interactions(8_000, 2));
    let (predictor, _) = boosted(&set, json!({"min_rows_per_leaf": 50}));
    let trees = log_loss(&margins(&*predictor, &fresh), &fresh.labels);
    let linear = log_loss(&linear(&set, &fresh), &fresh.labels);
    assert!(trees < linear - 0.1, "{trees} against {linear}");
}

/// Margins of a logistic regression on the numbers, fitted by gradient descent.
fn linear(set: &TrainingSet, fresh: &TrainingSet) -> Vec<f64> {
    let inputs = |set: &TrainingSet, i: usize| -> [f64; 4] {
        let gappy = set.numbers[2][i];
        let (gap, value) = if gappy.is_nan() { (1.0, 0.0) } else { (0.0, gappy) };
        [set.numbers[0][i], set.numbers[1][i], value, gap]
    };
    let dot = |w: &[f64; 5], x: [f64; 4]| w[4] + x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>();
    let mut weights = [0.0; 5];
    for _ in 0..300 {
        let mut gradient = [0.0; 5];
        for (i, label) in set.labels.iter().enumerate() {
            let x = inputs(set, i);
            let error = probability(dot(&weights, x)) - label;
            x.iter().zip(&mut gradient).for_each(|(x, g)| *g += error * x);
            gradient[4] += error;
        }
        let rows = set.labels.len() as f64;
        weights.iter_mut().zip(gradient).for_each(|(w, g)| *w -= 2.0 * g / rows);
    }
    (0..fresh.labels.len()).map(|i| dot(&weights, inputs(fresh, i))).collect()
}

#[test]
fn nulls_take_the_side_that_fits_them() {
    let set = interactions(8_000, 1);
    let (predictor, _) = boosted(&set, json!({}));
    let margin =
        |gappy| predictor.margin(Row { numbers: &[0.5, 0.5, gappy, 4.0], categories: &[0] });
    assert!(margin(f64::NAN) > margin(0.5) + 0.75, "{} {}", margin(f64::NAN), margin(0.5));
}

#[test]
fn what_training_never_saw_scores_as_the_rest() {
    let set = interactions(8_000, 1);
    let (predictor, _) = boosted(&set, json!({}));
    let margin = |place: &str| {
        let categories = [category(place)];
        predictor.margin(Row { numbers: &[0.5, 0.5, 0.5, 4.0], categories: &categories })
    };
    assert_eq!(margin("nowhere"), margin("nor here"));
    assert!(margin("place 2") > margin("place 3") + 1.0);
    let (low, high) = (margin("place 3").min(margin("nowhere")), margin("place 2"));
    assert!(low - 0.5 <= margin("nowhere") && margin("nowhere") <= high + 0.5);
}

#[test]
fn a_constant_is_never_asked_and_importance_is_in_order() {
    let set = interactions(8_000, 1);
    let (predictor, _) = boosted(&set, json!({}));
    let importance = predictor.importance();
    assert_eq!(importance.len(), 5);
    assert!(importance.windows(2).all(|pair| pair[0].1 >= pair[1].1));
    assert_eq!(importance[4], ("constant".into(), 0.0));
    assert!(importance[..4].iter().all(|(_, gain)| *gain > 0.0));
}

#[test]
fn leaves_keep_their_least_rows_and_trees_their_limits() {
    let set = interactions(3_000, 1);
    // With more than half of the rows in each leaf there is no split at all.
    let (predictor, trained) = boosted(&set, json!({"min_rows_per_leaf": 1501}));
    assert_eq!(metric(&trained, "trees"), 0.0);
    let one = margins(&*predictor, &set);
    assert!(one.iter().all(|m| m == &one[0]));

    // A tree of so many leaves, or so deep, gives at most so many margins.
    let different = |parameters: Json| {
        let (predictor, _) = boosted(&set, parameters);
        let mut all = margins(&*predictor, &set);
        all.sort_by(f64::total_cmp);
        all.dedup();
        all.len()
    };
    let tree = |key: &str, n: usize| json!({"trees": 1, "min_rows_per_leaf": 10, key: n});
    assert_eq!(different(tree("leaves", 7)), 7);
    assert_eq!(different(tree("depth", 2)), 4);
    assert!(different(json!({"trees": 1, "min_rows_per_leaf": 10})) > 7);
}

#[test]
fn chance_comes_from_the_seed_alone() {
    let set = interactions(3_000, 1);
    let parameters = json!({"trees": 20, "feature_fraction": 0.6, "bagging_fraction": 0.5});
    let bytes = |seed: u64, threads: usize| {
        run(boosting())(&set, &parameters, seed, threads).expect("the set is sound").bytes
    };
    assert_eq!(bytes(1, 1), bytes(1, 2));
    assert_ne!(bytes(1, 1), bytes(2, 1));
    // Rows outside the bag move with the tree, too.
    let (predictor, trained) = boosted(&set, parameters.clone());
    let loss = log_loss(&margins(&*predictor, &set), &set.labels);
    assert!((loss - metric(&trained, "log_loss")).abs() < 1e-12);
}

#[test]
fn keys_are_read_checked_and_completed() {
    let section = |key: &str, value: f64| {
        let mut section = Section::bare("gradient_boosting");
        let value = Node { value: Item::Float(value), span: 0..1 };
        section.keys.push((At { value: key.to_string(), span: 0..1 }, value));
        section
    };
    let read = |key, value| (boosting().parameters)(&section(key, value));
    let json = read("learning_rate", 0.125).expect("a sound rate");
    assert_eq!((&json["learning_rate"], &json["trees"]), (&json!(0.125), &json!(150)));
    assert!(read("learning_rate", -1.0).is_err() && read("trees", 2.5).is_err());
    let near = read("leafs", 3.0).expect_err("a misspelt key");
    assert!(near[0].help.contains("`leaves`"), "{near:?}");
    let keys: Vec<&str> = boosting().keys.iter().map(|(key, ..)| *key).collect();
    let stored: Vec<String> = json.as_object().expect("an object").keys().cloned().collect();
    assert_eq!(keys, stored);
    let run = |parameters: Json| run(boosting())(&interactions(50, 1), &parameters, 1, 1);
    assert!(run(json!({"leaves": 1})).is_err() && run(json!({"leafs": 5})).is_err());
}

#[test]
fn another_version_is_named() {
    let set = interactions(300, 1);
    let (_, trained) = boosted(&set, json!({"trees": 2}));
    let text = String::from_utf8(trained.bytes).expect("JSON");
    let newer = text.replacen("\"version\":1", "\"version\":2", 1);
    let error = load("gradient_boosting", newer.as_bytes(), &set.inputs).err().expect("refused");
    assert!(error.contains("version 2"), "{error}");
    let mut renamed = set.inputs.clone();
    renamed.numbers[1] = "z".into();
    let error = load("gradient_boosting", text.as_bytes(), &renamed).err().expect("refused");
    assert!(error.contains("number `y`") && error.contains("number `z`"), "{error}");
}

/// A change of this hash means that replays of journaled trainings no longer give the same model.
#[test]
fn the_arithmetic_is_frozen() {
    let set = interactions(2_000, 42);
    let parameters = json!({"trees": 10, "min_rows_per_leaf": 20, "feature_fraction": 0.8});
    let (_, trained) = boosted(&set, parameters);
    let text = String::from_utf8(trained.bytes).expect("JSON");
    assert_eq!(format!("{:016x}", category(&text)), "7d4a8c09defeb206");
}

#[test]
fn probabilities_are_symmetric_and_saturate() {
    assert_eq!(predictor::probability(0.0), 0.5);
    assert_eq!(probability(1e4), 1.0);
    assert_eq!(probability(-1e4), 0.0);
    assert!((probability(3.0) + probability(-3.0) - 1.0).abs() < 1e-15);
}
