//! How long a safetensors header takes to read, beside the format's reference reader: 200, 2 000 and 20 000 tensors.
//!
//! The reference checks less (duplicate names, the end of the file) and is given the header in memory, as this reader
//! is; both build a table.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hoist_formats::inspect;
use safetensors::SafeTensors;

/// A file of so many tensors with names as long as a diffusion model's.
fn file(tensors: u64) -> Vec<u8> {
    let entries: Vec<String> = (0..tensors)
        .map(|at| {
            let name = format!(
                "down_blocks.{}.attentions.{}.transformer_blocks.{at}.attn1.to_q.weight",
                at % 4,
                at % 3
            );
            format!(
                "\"{name}\":{{\"dtype\":\"F16\",\"shape\":[2,4],\"data_offsets\":[{},{}]}}",
                at * 16,
                at * 16 + 16
            )
        })
        .collect();
    let header = format!("{{\"__metadata__\":{{\"format\":\"pt\"}},{}}}", entries.join(","));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + usize::try_from(tensors * 16).unwrap_or_default(), 0);
    file
}

fn header(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("safetensors-header");
    for tensors in [200, 2_000, 20_000] {
        let file = file(tensors);
        group.throughput(Throughput::Elements(tensors));
        group.bench_with_input(BenchmarkId::new("hoist", tensors), file.as_slice(), |bencher, file| {
            bencher.iter(|| inspect(file, "model.safetensors"));
        });
        group.bench_with_input(BenchmarkId::new("reference", tensors), file.as_slice(), |bencher, file| {
            bencher.iter(|| SafeTensors::read_metadata(file));
        });
    }
    group.finish();
}

criterion_group!(benches, header);
criterion_main!(benches);
