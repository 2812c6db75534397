# Everything that must hold before a change lands.
check:
    cargo fmt --all --check
    cargo clippy --release --workspace --all-targets -- -D warnings
    bash tests/run

# All tests.
test:
    bash tests/run

# The documentation of all packages.
docs:
    cargo doc --workspace --no-deps

# The feature language (`feature`) or what faces the network (`network`) under libFuzzer, until it is stopped.
fuzz target="feature":
    cargo +nightly fuzz run {{target}} -- -timeout=10 -max_len=2048

# Payments features beside Flink, DuckDB and Polars, one table; `bench` is the folder of the side-by-side bench.
peers bench events="2000000" cores="1" only="w1:flink-java,w1:duckdb*,w1:polars*":
    cargo build --release
    python3 {{bench}}/run.py --events {{events}} --cores {{cores}} --only '{{only}}' --against w1:flink-java \
        --contestant "w1:tidemill-json=${CARGO_TARGET_DIR:-target}/release/tidemill run {{justfile_directory()}}/config/pipelines/payments.toml --set source.payments.path={input} --set sink.features.path={output} --workers {threads} --quiet" \
        --contestant "w1:tidemill-parquet=${CARGO_TARGET_DIR:-target}/release/tidemill run {{justfile_directory()}}/config/pipelines/payments.toml --set source.payments.path={input_parquet} --set sink.features.path={output} --workers {threads} --quiet"

# The features of a file of payments as a batch, beside DuckDB and Polars, one table; `bench` as above.
backfill bench events="2000000" cores="1" only="w1:duckdb*,w1:polars*":
    cargo build --release
    python3 {{bench}}/run.py --events {{events}} --cores {{cores}} --only '{{only}}' --against w1:polars-parquet \
        --contestant "w1:backfill-parquet=${CARGO_TARGET_DIR:-target}/release/tidemill backfill {{justfile_directory()}}/config/pipelines/payments.toml --set source.payments.path={input_parquet} --from 2000-01-01 --to 2100-01-01 --out {output}.parquet --compression none --workers {threads} --quiet" \
        --contestant "w1:backfill-json=${CARGO_TARGET_DIR:-target}/release/tidemill backfill {{justfile_directory()}}/config/pipelines/payments.toml --set source.payments.path={input} --from 2000-01-01 --to 2100-01-01 --out {output}.parquet --compression none --workers {threads} --quiet" \
        --contestant "w1:backfill-4-parts=${CARGO_TARGET_DIR:-target}/release/tidemill backfill {{justfile_directory()}}/config/pipelines/payments.toml --set source.payments.path={input_parquet} --from 2000-01-01 --to 2100-01-01 --out {output}.parquet --compression none --parts 4 --executor subprocess --workers {threads} --quiet"

# Latency of payments from topic to topic beside Kafka Streams, one table; needs `setup.sh base latency kstreams` of `bench`.
latency bench only="broker alone,kafka-streams" repeat="3":
    cargo build --release
    python3 {{bench}}/latency.py --core-list 0,1 --only '{{only}}' --repeat {{repeat}} --results . --name latency \
        --contestant "tidemill=sh -c 'rm -rf {work}-out; exec ${CARGO_TARGET_DIR:-target}/release/tidemill run {{justfile_directory()}}/config/pipelines/payments_kafka.toml --set source.payments.brokers={broker} --set sink.features.brokers={broker} --workers {threads} --quiet --folder {work}-out'"
