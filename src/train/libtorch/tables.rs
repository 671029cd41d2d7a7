//! A table of embeddings that is trained: gathered rows, gradients by row, and Adam as PyTorch's dense gradients have it.
//!
//! The last row is the padding row: zero, and never trained. A row without a gradient in a step still moves by its decaying
//! moments; one that never had a gradient has moments of zero, moves by zero, and is left out.

use tch::{Device, TchError, Tensor};

use super::adam::Rates;
use super::network::{Init, Initial, Parameters, Spec, floats, floats_mut};

type Result<T> = std::result::Result<T, TchError>;

/// Below this many numbers a thread costs more than it saves.
const PER_THREAD_MIN: usize = 1 << 16;

/// A table of (rows, d), its moments, and what it needs to be trained.
#[derive(Debug)]
pub(super) struct Table {
    values: Parameters,
    first: Tensor,
    second: Tensor,
    /// The gradient of the step, zero between steps; (rows, d).
    gradient: Tensor,
    /// 1 for every row that ever had a gradient; on the CPU.
    touched: Tensor,
    lr: f64,
}

impl Table {
    /// A table of `rows`, the last of which is the padding row.
    pub(super) fn new(rows: i64, dim: i64, lr: f64, initial: &mut Initial) -> Result<Table> {
        let spec = Spec { key: "table".into(), shape: vec![rows, dim], init: Init::Xavier };
        let values = Parameters::new(&[spec], initial)?;
        let zeros = || values.flat().f_narrow(0, 0, rows * dim)?.f_zeros_like()?.f_view([rows, dim]);
        let table = Table {
            first: zeros()?,
            second: zeros()?,
            gradient: zeros()?,
            touched: Tensor::f_zeros([rows], (tch::Kind::Float, Device::Cpu))?,
            values,
            lr,
        };
        drop(table.view()?.f_get(rows - 1)?.f_zero_()?);
        Ok(table)
    }

    /// The index of the padding row.
    pub(super) fn padding(&self) -> i32 {
        self.gradient.size()[0] as i32 - 1
    }

    /// All rows, (rows, d).
    pub(super) fn view(&self) -> Result<Tensor> {
        let size = self.gradient.size();
        self.values.flat().f_narrow(0, 0, size.iter().product())?.f_view(size.as_slice())
    }

    /// The vectors of these rows.
    pub(super) fn gather(&self, rows: &[i32]) -> Result<Tensor> {
        let rows = Tensor::f_from_slice(rows)?.f_to_device(self.gradient.device())?;
        self.view()?.f_index_select(0, &rows)
    }

    /// One step of Adam; `by_rows` is the gradient by each gathered vector, (rows, d).
    pub(super) fn update(&mut self, rows: &[i32], by_rows: &Tensor, step: i64) -> Result<()> {
        if self.padding() == 0 {
            return Ok(());
        }
        let rates = Rates::new(self.lr, step);
        if self.gradient.device() == Device::Cpu {
            let by_rows = by_rows.f_contiguous()?;
            self.update_on_cpu(rows, floats(&by_rows), rates);
            return Ok(());
        }
        let index = Tensor::f_from_slice(rows)?.f_to_device(self.gradient.device())?;
        let mut gradient = self.gradient.f_index_add_(0, &index, by_rows)?;
        drop(gradient.f_get(i64::from(self.padding()))?.f_zero_()?);
        let flat = |tensor: &Tensor| tensor.f_view([-1]);
        rates.apply(flat(&self.view()?)?, &flat(&gradient)?, flat(&self.first)?, flat(&self.second)?)?;
        gradient.f_zero_().map(drop)
    }

    fn update_on_cpu(&mut self, rows: &[i32], by_rows: &[f32], rates: Rates) {
        let padding = self.padding();
        let dim = self.gradient.size()[1] as usize;
        let mut values = self.values.flat().shallow_clone();
        let gradient = floats_mut(&mut self.gradient);
        let touched = floats_mut(&mut self.touched);
        for (&row, by_row) in rows.iter().zip(by_rows.chunks(dim)).filter(|&(&row, _)| row != padding) {
            touched[row as usize] = 1.0;
            let sum = &mut gradient[row as usize * dim..][..dim];
            sum.iter_mut().zip(by_row).for_each(|(sum, part)| *sum += part);
        }
        let len = gradient.len();
        let (values, first, second) =
            (&mut floats_mut(&mut values)[..len], floats_mut(&mut self.first), floats_mut(&mut self.second));
        let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1).min(len / PER_THREAD_MIN).max(1);
        let part = touched.len().div_ceil(threads);
        let work = |touched: &[f32], values: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]| {
            for (row, _) in touched.iter().enumerate().filter(|&(_, &touched)| touched != 0.0) {
                let at = row * dim..(row + 1) * dim;
                let (first, second) = (&mut first[at.clone()], &mut second[at.clone()]);
                rates.elements(&mut values[at.clone()], &gradient[at], first, second);
            }
        };
        std::thread::scope(|scope| {
            let values = values.chunks_mut(part * dim).zip(gradient.chunks(part * dim));
            let moments = first.chunks_mut(part * dim).zip(second.chunks_mut(part * dim));
            let mut parts: Vec<_> = touched.chunks(part).zip(values.zip(moments)).collect();
            // The last part is this thread's own.
            let own = parts.pop();
            for (touched, ((values, gradient), (first, second))) in parts {
                scope.spawn(move || work(touched, values, gradient, first, second));
            }
            if let Some((touched, ((values, gradient), (first, second)))) = own {
                work(touched, values, gradient, first, second);
            }
        });
        for &row in rows {
            gradient[row as usize * dim..][..dim].fill(0.0);
        }
    }

    /// What a checkpoint holds.
    pub(super) fn tensors(&self) -> [(&'static str, Tensor); 4] {
        let parts =
            [("value", self.values.flat()), ("m", &self.first), ("v", &self.second), ("touched", &self.touched)];
        parts.map(|(name, tensor)| (name, tensor.shallow_clone()))
    }
}
