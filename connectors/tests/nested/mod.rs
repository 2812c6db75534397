//! Reading columns of lists and maps, shown as text.

use std::fs;
use std::path::Path;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use arrow::util::display::array_value_to_string;
use tidemill_connectors::format::compression::Input;
use tidemill_connectors::format::{Entry, FORMATS, Layout, Packing, Reject};
use tidemill_types::{Field, Schema};

/// The format of that name.
pub fn format(name: &str) -> &'static Entry {
    FORMATS.iter().find(|format| format.name == name).expect("a format")
}

/// Columns as declared.
pub fn layout(fields: &[(&str, &str)]) -> Layout {
    let field = |(name, declared): &(&str, &str)| Field::parse(name, declared).expect("a type");
    Layout::new(Schema { fields: fields.iter().map(field).collect() })
}

/// The rows of a file as text with the lines they came from, and what was refused.
pub fn read(name: &str, path: &Path, layout: &Layout) -> (Vec<(u64, String)>, Vec<Reject>) {
    let mut reader = (format(name).reader)(&Input::new(path), layout).expect("it opens");
    let (mut batches, mut lines, mut rejects) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(part) = reader.read(3).expect("it reads") {
        assert_eq!(part.rows.schema(), layout.schema.to_arrow());
        batches.push(part.rows);
        lines.extend(part.lines);
        rejects.extend(part.rejects);
    }
    let all = concat_batches(&layout.schema.to_arrow(), &batches).expect("one batch");
    let cell = |column: &ArrayRef, row: usize| match column.is_null(row) {
        true => "-".to_string(),
        false => array_value_to_string(column, row).expect("it can be shown"),
    };
    let row = |row: usize| {
        let cells: Vec<String> = all.columns().iter().map(|column| cell(column, row)).collect();
        cells.join("|")
    };
    let rows = lines.into_iter().enumerate().map(|(n, line)| (line, row(n))).collect();
    (rows, rejects)
}

/// The same of a file with this text.
pub fn read_text(name: &str, text: &str, layout: &Layout) -> (Vec<(u64, String)>, Vec<Reject>) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rows");
    fs::write(&path, text).expect("written");
    read(name, &path, layout)
}

/// What is wrong with each line, by its number.
pub fn refused(found: &[Reject], wanted: &[(u64, &str)]) {
    let told: Vec<(u64, &str)> =
        found.iter().map(|r| (r.line, r.refusal.detail.as_str())).collect();
    assert_eq!(told, wanted);
    assert!(found.iter().all(|reject| reject.refusal.reason == "type" && !reject.raw.is_empty()));
}

/// Writes a batch with each columnar format and reads it as declared.
pub fn columnar(
    columns: Vec<(&str, ArrayRef)>,
    declared: &[(&str, &str)],
) -> Vec<Vec<(u64, String)>> {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, column)| (name, column, true)),
    )
    .expect("a batch");
    let folder = tempfile::tempdir().expect("a folder");
    ["parquet", "arrow_ipc"]
        .map(|name| {
            let path = folder.path().join(name);
            let file = fs::File::create(&path).expect("a file");
            let mut writer =
                (format(name).writer)(Box::new(file), &batch.schema(), Packing::default())
                    .expect("it opens");
            writer.write(&batch).expect("written");
            writer.finish().expect("ended");
            let (mut rows, rejects) = read(name, &path, &layout(declared));
            rows.extend(rejects.into_iter().map(|r| (r.line, r.refusal.detail)));
            rows
        })
        .to_vec()
}
