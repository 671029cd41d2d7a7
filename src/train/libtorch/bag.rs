//! An embedding bag that adds up, as `torch.nn.EmbeddingBag(mode="sum")`: for each sample the sum of a few rows, and its gradient.
//!
//! On the CPU each is one pass here. libtorch writes every row out before it adds it, or, in its own bag, sorts the places first: with 2,048
//! samples of 3 rows of 256 that took as long as the product of matrices that the bag is to save.

use tch::{Device, Kind, TchError, Tensor};

use super::network::{floats, floats_mut};

type Result<T> = std::result::Result<T, TchError>;

/// Below this many numbers a thread costs more than it saves.
const PER_THREAD_MIN: usize = 1 << 18;

fn threads(numbers: usize) -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1).min(numbers / PER_THREAD_MIN).max(1)
}

/// For each sample the sum of `each` rows of `products`, at its `places`.
pub(super) fn sums(products: &Tensor, places: &[u32], each: usize) -> Result<Tensor> {
    if products.device() == Device::Cpu {
        sums_in_one_pass(products, places, each)
    } else {
        sums_by_libtorch(products, places, each)
    }
}

fn sums_by_libtorch(products: &Tensor, places: &[u32], each: usize) -> Result<Tensor> {
    let parts = products.f_index_select(0, &index(places, products.device())?)?;
    let parts = parts.f_view([(places.len() / each) as i64, each as i64, products.size()[1]])?;
    parts.f_sum_dim_intlist([1].as_slice(), false, Kind::Float)
}

/// On the CPU, where libtorch writes every row out before it adds it.
fn sums_in_one_pass(products: &Tensor, places: &[u32], each: usize) -> Result<Tensor> {
    let (samples, width) = (places.len() / each, products.size()[1] as usize);
    let products = products.f_contiguous()?;
    let mut sums = Tensor::f_zeros([samples as i64, width as i64], (Kind::Float, Device::Cpu))?;
    let products = floats(&products);
    let share = samples.div_ceil(threads(samples * each * width)).max(1);
    std::thread::scope(|scope| {
        let parts = floats_mut(&mut sums).chunks_mut(share * width).zip(places.chunks(share * each));
        for (sums, places) in parts {
            let mut work = move || {
                for (sum, places) in sums.chunks_mut(width).zip(places.chunks(each)) {
                    for &place in places {
                        let product = &products[place as usize * width..][..width];
                        sum.iter_mut().zip(product).for_each(|(sum, part)| *sum += part);
                    }
                }
            };
            if share < samples {
                scope.spawn(work);
            } else {
                work();
            }
        }
    });
    Ok(sums)
}

/// From the gradient by the sums, that by each of `rows` rows: the sum over the samples that have it among their `places`.
pub(super) fn gradient(by_sums: &Tensor, places: &[u32], rows: i64) -> Result<Tensor> {
    if by_sums.device() == Device::Cpu {
        gradient_in_one_pass(by_sums, places, rows)
    } else {
        gradient_by_libtorch(by_sums, places, rows)
    }
}

fn gradient_by_libtorch(by_sums: &Tensor, places: &[u32], rows: i64) -> Result<Tensor> {
    let all = places.len() as i64;
    let by_places = by_sums.f_repeat_interleave_self_int(all / by_sums.size()[0], 0, all)?;
    let mut by_products = by_sums.f_new_zeros([rows, by_sums.size()[1]], (Kind::Float, by_sums.device()))?;
    by_products.f_index_add_(0, &index(places, by_sums.device())?, &by_places)
}

/// Threads share the columns, so that each number is added up in the order of the samples, however many threads there are.
fn gradient_in_one_pass(by_sums: &Tensor, places: &[u32], rows: i64) -> Result<Tensor> {
    let (samples, width) = (by_sums.size()[0] as usize, by_sums.size()[1] as usize);
    let by_sums = by_sums.f_contiguous()?;
    let mut by_products = Tensor::f_zeros([rows, width as i64], (Kind::Float, Device::Cpu))?;
    let by_sums = floats(&by_sums);
    let each = places.len() / samples;
    let share = width.div_ceil(threads(places.len() * width)).max(1);
    let mut shares: Vec<Vec<&mut [f32]>> = Vec::new();
    shares.resize_with(width.div_ceil(share), || Vec::with_capacity(rows as usize));
    for row in floats_mut(&mut by_products).chunks_mut(width) {
        shares.iter_mut().zip(row.chunks_mut(share)).for_each(|(sums, part)| sums.push(part));
    }
    std::thread::scope(|scope| {
        let alone = shares.len() == 1;
        for (number, mut sums) in shares.into_iter().enumerate() {
            let mut work = move || {
                for (by_sum, places) in by_sums.chunks(width).zip(places.chunks(each)) {
                    for &place in places {
                        let sum = &mut *sums[place as usize];
                        sum.iter_mut().zip(&by_sum[number * share..]).for_each(|(sum, part)| *sum += part);
                    }
                }
            };
            if alone {
                work();
            } else {
                scope.spawn(work);
            }
        }
    });
    Ok(by_products)
}

fn index(places: &[u32], device: Device) -> Result<Tensor> {
    let places: Vec<i64> = places.iter().map(|&place| place.into()).collect();
    Tensor::f_from_slice(&places)?.f_to_device(device)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The pass for the CPU beside what a GPU takes.
    #[test]
    fn one_pass_adds_up_what_libtorch_does() {
        let (rows, each) = (40, 3);
        // So many samples that threads share them.
        for samples in [1, 7, 2000] {
            let places: Vec<u32> = (0..samples * each).map(|at| (at * at % rows) as u32).collect();
            let products = Tensor::randn([rows as i64, 256], (Kind::Float, Device::Cpu));
            let by_sums = Tensor::randn([samples as i64, 256], (Kind::Float, Device::Cpu));
            let near = |one: Tensor, other: Tensor| assert!(one.allclose(&other, 1e-4, 1e-3, false), "{samples}");
            near(
                sums_in_one_pass(&products, &places, each).unwrap(),
                sums_by_libtorch(&products, &places, each).unwrap(),
            );
            near(
                gradient_in_one_pass(&by_sums, &places, rows as i64).unwrap(),
                gradient_by_libtorch(&by_sums, &places, rows as i64).unwrap(),
            );
            // In the order of the samples, to the bit, whoever does it.
            let mut in_order = vec![0.0; rows * 256];
            for (by_sum, places) in floats(&by_sums).chunks(256).zip(places.chunks(each)) {
                for &place in places {
                    in_order[place as usize * 256..][..256].iter_mut().zip(by_sum).for_each(|(sum, part)| *sum += part);
                }
            }
            assert_eq!(floats(&gradient_in_one_pass(&by_sums, &places, rows as i64).unwrap()), in_order);
        }
    }
}
