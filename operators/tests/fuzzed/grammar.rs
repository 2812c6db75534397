//! Texts that are nearly features: from a grammar, then bent byte by byte.

/// Words that the parser, the planner or the tokenizer treats apart. The capital letters change
/// their length in bytes when they become small.
const ODD: &[&str] = &[
    "''",
    "'İİİİİİİİ'",
    "'K'",
    "'ẞ'",
    "'\u{1f600}'",
    "\"İ\"",
    "\"a name\"",
    "\"",
    "'",
    "$1",
    "$$x$$",
    "E'\\n'",
    "U&'\\00e9'",
    "X'1f'",
    "B'01'",
    "{",
    "}",
    "[",
    "]",
    "array[1, 2]",
    "(1, 2)",
    ";",
    ",",
    "--",
    "/*",
    "*/",
    "\n",
    "\r\n",
    "\t",
    "\u{a0}",
    "\0",
    "::",
    ":",
    "->",
    "->>",
    "@>",
    "#",
    "?",
    "~*",
    "!!",
    "|/",
    "^",
    "&",
    "<<",
    ">>",
    "||",
    "=>",
    ":=",
    ".",
    "..",
    "t.x",
    "*",
    "over",
    "over ()",
    "over (w)",
    "over (order by t)",
    "filter (where",
    "within group (order by x)",
    "distinct",
    "all",
    "any",
    "some",
    "exists (select 1)",
    "(select x from w)",
    "interval '1 day'",
    "date '2013-01-01'",
    "timestamp '2013-01-01 00:00:00'",
    "time '12:00'",
    "json '{}'",
    "at time zone 'UTC'",
    "collate \"C\"",
    "is distinct from",
    "is json",
    "similar to",
    "escape",
    "grouping sets ((x))",
    "current_date",
    "default",
    "row(1, 2)",
    "position('a' in s)",
    "substring(s from 2 for 3)",
    "trim(both 'a' from s)",
    "overlay(s placing 'b' from 1)",
    "extract(epoch from t)",
    "ceil(t to day)",
    "floor(x to hour)",
    "convert(x, char)",
    "try_cast(s as bigint)",
    "cast(x as struct<a int>)",
    "x::int[]",
    "not",
    "prior x",
    "match (a) against ('b')",
    "lambda x: x",
    "unnest(v)",
    "sum(unnest(v)) over w",
    "sum_per(x, unnest(tags)) over w",
    "vector_avg(v) over w",
    "map_avg(m) over w",
    "m['a']",
    "m[1]",
    "tags[1]",
    "v[1:2]",
    "['a', 'b']",
    "map {'a': 1}",
    "\u{feff}",
    "ı",
    "ﬁ",
    "__call_0",
];

const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "0.5",
    "1e999",
    "1e-999",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "99999999999999999999999999999999999999999",
    "0x1f",
    "1_000",
    ".5",
    "5.",
    "1e",
    "0.1234567890123456789012345678901234567890",
    "2147483648",
];

const COLUMNS: &[&str] =
    &["i", "x", "s", "b", "t", "arrDelay", "\"a name\"", "arrdelay", "y", "w", "v", "tags", "m"];

const TYPES: &[&str] = &[
    "bigint",
    "int",
    "double precision",
    "text",
    "boolean",
    "timestamp",
    "date",
    "numeric(5, 2)",
    "decimal(76, 38)",
    "interval",
    "bytea",
    "uuid",
    "varchar(3)",
    "smallint",
    "real",
    "unknown",
];

const OPERATORS: &[&str] = &[
    "+",
    "-",
    "*",
    "/",
    "%",
    "||",
    "=",
    "<>",
    "<",
    ">=",
    "and",
    "or",
    "like",
    "ilike",
    "is distinct from",
    "~",
    "&",
    "|",
    "#",
    "<<",
    "xor",
    "similar to",
];

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub struct Chance(pub u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) >> 11) as usize % n
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

/// A source of texts.
pub struct Texts {
    chance: Chance,
    functions: Vec<&'static str>,
    aggregates: Vec<&'static str>,
}

impl Texts {
    /// The texts of a seed, over these scalar functions and aggregates.
    pub fn new(seed: u64, functions: Vec<&'static str>, aggregates: Vec<&'static str>) -> Texts {
        Texts { chance: Chance(seed), functions, aggregates }
    }

    /// The next text: a feature as it should be, or bent.
    pub fn next(&mut self) -> String {
        let depth = 1 + self.chance.below(4);
        let text = match self.chance.below(2) {
            0 => self.number(depth),
            _ => self.expression(depth),
        };
        match self.chance.below(3) {
            0 => text,
            _ => self.bent(text),
        }
    }

    fn expression(&mut self, depth: usize) -> String {
        if depth == 0 {
            return match self.chance.below(8) {
                0..=3 => self.chance.pick(COLUMNS).to_string(),
                4 | 5 => self.chance.pick(NUMBERS).to_string(),
                6 => "'a'".to_string(),
                _ => self.chance.pick(&["null", "true", "false", "'2013-01-01'"]).to_string(),
            };
        }
        let mut part = || self.expression(depth - 1);
        let (a, b, c) = (part(), part(), part());
        match self.chance.below(16) {
            0..=3 => format!("{a} {} {b}", self.chance.pick(OPERATORS)),
            4 => format!("({a})"),
            5 => format!("{}{a}", self.chance.pick(&["-", "not ", "+", "~"])),
            6 => format!("case when {a} then {b} else {c} end"),
            7 => format!("cast({a} as {})", self.chance.pick(TYPES)),
            8 => format!("{a} in ({b}, {c})"),
            9 => format!("{a} between {b} and {c}"),
            10 => format!("{a} is {}", self.chance.pick(&["null", "not null", "true", "unknown"])),
            11 | 12 => self.function(&a, &b, &c),
            _ => self.call(&a, &b),
        }
    }

    /// An expression that has a type: a number, all being well.
    fn number(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.chance.pick(&["i", "x", "arrDelay", "\"a name\"", "2", "0.5"]).to_string();
        }
        let (a, b) = (self.number(depth - 1), self.number(depth - 1));
        match self.chance.below(7) {
            0 => format!("({a} {} {b})", self.chance.pick(&["+", "-", "*", "/"])),
            1 => format!("case when {} then {a} else {b} end", self.condition(depth - 1)),
            2 => format!("coalesce({a}, {b})"),
            3 => format!("cast({a} as double precision)"),
            4 => format!("count(*) filter (where {}) over w", self.condition(0)),
            5 => {
                let name = self.chance.pick(&["sum", "avg", "max", "median"]);
                format!("{name}(x){}", self.chance.pick(&[" over v", " over v", " OVER w", ""]))
            }
            _ => format!("abs({a})"),
        }
    }

    fn condition(&mut self, depth: usize) -> String {
        let a = self.number(depth);
        match self.chance.below(5) {
            0 => format!("{a} > 0 and b"),
            1 => format!("{a} is not null"),
            2 => format!("s in ('a', '\u{e9}') or {a} between 1 and 2"),
            3 => format!("not (s like '%İİİİİİİİ%') or {a} = 1"),
            _ => format!("{a} <> x"),
        }
    }

    fn function(&mut self, a: &str, b: &str, c: &str) -> String {
        let name = self.functions[self.chance.below(self.functions.len())];
        match self.chance.below(4) {
            0 => format!("{name}()"),
            1 => format!("{name}({a})"),
            2 => format!("{name}({a}, {b})"),
            _ => format!("{name}({a}, {b}, {c})"),
        }
    }

    fn call(&mut self, a: &str, b: &str) -> String {
        let name = self.aggregates[self.chance.below(self.aggregates.len())];
        let arguments = match self.chance.below(6) {
            0 => "*".to_string(),
            1 => format!("distinct {a}"),
            2 => format!("{a}, {}", self.chance.pick(NUMBERS)),
            3 => self.chance.pick(COLUMNS).to_string(),
            _ => a.to_string(),
        };
        let filter = match self.chance.below(4) {
            0 => format!(" filter (where {b})"),
            _ => String::new(),
        };
        let over = self.chance.pick(&[" over w", " over v", " over (w)", " over z", "", " OVER W"]);
        format!("{name}({arguments}){filter}{over}")
    }

    /// One to four changes: of bytes, of parts, of words.
    fn bent(&mut self, text: String) -> String {
        let mut bytes = text.into_bytes();
        for _ in 0..1 + self.chance.below(4) {
            let at = self.chance.below(bytes.len() + 1);
            let to = at + self.chance.below(bytes.len() - at + 1);
            match self.chance.below(7) {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..to)),
                2 => {
                    let part = bytes[at..to].to_vec();
                    let _ = bytes.splice(at..at, part).count();
                }
                3 if at < bytes.len() => bytes[at] ^= 1 << self.chance.below(8),
                4 => bytes.insert(at, self.chance.below(256) as u8),
                _ => {
                    let word = format!(" {} ", self.chance.pick(ODD));
                    let _ = bytes.splice(at..at, word.into_bytes()).count();
                }
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
