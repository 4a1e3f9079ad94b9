#!/usr/bin/env bash
# Fuzzes a target on a stable toolchain; `cargo fuzz run triggers` does the same on a nightly one.
#
#   fuzz/run.sh triggers -max_total_time=600
#
# It needs a C++ compiler for libFuzzer. What follows the target goes to libFuzzer. Inputs are kept
# in fuzz/corpus, finds in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")"
target=${1:?name a target: triggers}
shift

# What cargo-fuzz sets, less the sanitizer: this package and what it is made of forbid `unsafe`.
coverage="-Cpasses=sancov-module -Ccodegen-units=1 -Cdebug-assertions"
for option in level=4 inline-8bit-counters pc-table trace-compares; do
  coverage+=" -Cllvm-args=-sanitizer-coverage-$option"
done
host=$(rustc -vV | sed -n 's/^host: //p')
# With a target named, the flags don't reach build scripts and macros.
RUSTFLAGS="--cfg fuzzing $coverage" cargo build --release --target "$host" --bin "$target"

mkdir -p "corpus/$target" "artifacts/$target"
count=0
while IFS= read -r seed; do
  count=$((count + 1))
  # The last 16 bytes choose the zone, the instant and the policies: New York, 2026.
  printf '%s\0\0\0\0\0\0\0\0\0\0\1\217\0\0\0\2' "$seed" >"corpus/$target/seed-$count"
done <seeds.txt

exec "${CARGO_TARGET_DIR:-target}/$host/release/$target" \
  -dict="$target.dict" -artifact_prefix="artifacts/$target/" -timeout=5 -max_len=300 \
  "$@" "corpus/$target"
