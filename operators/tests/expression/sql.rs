//! What DataFusion has otherwise than SQL, as SQL has it.

use super::*;

/// Texts whose value no row changes.
fn constants(cases: &[(&str, Value)]) {
    for (text, wanted) in cases {
        let got = compile(text).evaluate(&rows()).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(&values(&got)[0], wanted, "{text}");
    }
}

#[test]
fn distinct_from_ends_before_and_or_and_is() {
    let (yes, no) = (Value::Bool(true), Value::Bool(false));
    constants(&[
        ("true is distinct from false and false", no.clone()),
        ("true is distinct from (false and false)", yes.clone()),
        ("true is not distinct from true and false", no.clone()),
        ("false is distinct from false or true", yes.clone()),
        ("false and true is distinct from false or true", yes.clone()),
        ("false and (true is distinct from false or true)", no.clone()),
        ("not true is distinct from false and false", no.clone()),
        ("true is distinct from not true and false", no.clone()),
        // Comparisons bind closer, as does `between`, whose `and` is its own.
        ("true is distinct from 1 = 1", no.clone()),
        ("2 = 2 is distinct from 1 < 2", no.clone()),
        ("true is distinct from 2 between 1 and 3 and true", no.clone()),
        ("1 is distinct from 1 + 1 and true", yes.clone()),
        // From the left, as other systems have it.
        ("true is distinct from true is distinct from true", yes.clone()),
        ("null is distinct from 1 is null", no.clone()),
        ("case when 1 is distinct from 1 and true then 1 else 2 end = 2", yes),
        ("coalesce(1 is distinct from 1 or false, true)", no),
    ]);
}

#[test]
fn signs_bind_closer_than_powers() {
    constants(&[
        ("-2 ^ 2", float(4.0)),
        ("-(2 ^ 2)", float(-4.0)),
        ("2 ^ -1", float(0.5)),
        ("- 2 * 3 - -4", int(-2)),
        ("-9223372036854775808", int(i64::MIN)),
        ("-7::double precision / 2", float(-3.5)),
    ]);
}
