//! Sums among the GPUs of several processes, through NCCL.
//!
//! burn sums among the devices of one process: the id that NCCL's ranks join by is made inside cubecl, and kept there.
//! So the communicator here is our own, one GPU a process; rank 0 makes the id, and MPI carries it to the others.
//!
//! cubecl tells where a tensor lies on the GPU, but not on which of CUDA's streams it works. The order is kept by the
//! host: it waits until the device has done all that it was asked for, then for the sum on a stream of NCCL's own, and
//! only then asks the device for more. That costs a wait a step.
//!
//! One thread makes all calls of NCCL, any of which may wait for another rank for as long as that takes. The loop waits
//! for the thread with the limit of all waits for ranks, and can end the process meanwhile. Nothing is closed at the
//! end: closing waits for the other ranks too, of which one may be gone, and the process ends soon.

use std::ffi::{CStr, c_char};
use std::mem::MaybeUninit;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, sleep, yield_now};
use std::time::{Duration, Instant};

use burn::tensor::{FloatDType, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::cuda::CudaRuntime;
use cubecl_runtime::runtime::Runtime;
use cudarc::driver::result as driver;
use cudarc::driver::sys::{CUresult, CUstream, cuStreamQuery};
use cudarc::nccl::{result as nccl, sys};

use super::ranks::patience;
use crate::config::SumDtype;
use crate::device::{Device, failed};
use crate::error::{Error, Result};

/// Why something of NCCL did not work, for the sentence that says how ranks sum.
type Why<T> = std::result::Result<T, String>;

/// What owns the memory of tensors on CUDA.
type Server = <CudaRuntime as Runtime>::Server;

/// How long ranks may take to join: one that failed before it came so far is waited for.
const JOINING: Duration = Duration::from_secs(120);

/// How long the thread looks for the end of a sum without a pause.
const BUSY: Duration = Duration::from_millis(2);

/// The GPUs of all ranks, as this one has joined them.
#[derive(Debug)]
pub(super) struct Gpus {
    thread: Mutex<Thread>,
    limit: Duration,
}

/// The thread that calls NCCL.
#[derive(Debug)]
struct Thread {
    asked: Sender<Sum>,
    done: Receiver<Why<()>>,
}

impl Thread {
    /// What it came to with what it was asked last.
    fn answer(&self, limit: Duration) -> Why<()> {
        match self.done.recv_timeout(limit) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => Err(format!("waited {} s for the other ranks", limit.as_secs())),
            Err(RecvTimeoutError::Disconnected) => Err("its thread has ended".to_owned()),
        }
    }
}

/// A sum of numbers on the GPU.
struct Sum {
    from: u64,
    into: u64,
    count: usize,
    dtype: sys::ncclDataType_t,
}

/// NCCL's version and the GPU's name among all, or why this rank can't sum through NCCL.
pub(super) fn able(device: &Device) -> Why<(String, String)> {
    // SAFETY: only looks whether the library can be loaded.
    if !unsafe { sys::is_culib_present() } {
        return Err("libnccl is not there".to_owned());
    }
    let version = nccl::get_nccl_version().map_err(|error| reason("ncclGetVersion", &error))?;
    let gpu = cuda_device(device).and_then(driver::device::get_uuid).map_err(|error| format!("cuDeviceGetUuid: {error:?}"))?;
    let gpu: String = gpu.bytes.iter().map(|byte| format!("{:02x}", *byte as u8)).collect();
    Ok((format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100), gpu))
}

/// What ranks join by.
pub(super) fn new_id() -> Why<Vec<u8>> {
    let id = nccl::get_uniqueid().map_err(|error| reason("ncclGetUniqueId", &error))?;
    Ok(id.internal.iter().map(|byte| *byte as u8).collect())
}

/// The driver's number of it.
fn cuda_device(device: &Device) -> std::result::Result<cudarc::driver::sys::CUdevice, driver::DriverError> {
    driver::init()?;
    driver::device::get(device.cuda_index().unwrap_or_default() as i32)
}

fn reason(call: &str, error: &nccl::NcclError) -> String {
    // SAFETY: NCCL gives a text of its own that stays.
    let text = unsafe { CStr::from_ptr(sys::ncclGetErrorString(error.0)) };
    format!("{call}: {}; NCCL_DEBUG=WARN says more", text.to_string_lossy())
}

impl Gpus {
    /// Joins by the id, as rank `place.0` of `place.1`. All ranks call it together.
    pub fn join(device: &Device, id: &[u8], place: (usize, usize)) -> Why<Self> {
        let id: [u8; 128] = id.try_into().map_err(|_| "rank 0 has sent no id".to_owned())?;
        let id = sys::ncclUniqueId { internal: id.map(|byte| byte as c_char) };
        let limit = patience().map_err(|error| error.to_string())?;
        let device = cuda_device(device).map_err(|error| format!("{error:?}"))?;
        let (asked, asks) = channel();
        let (tells, done) = channel();
        let serve = move || match Communicator::join(device, id, place) {
            Err(why) => drop(tells.send(Err(why))),
            Ok(communicator) => {
                // Until nobody asks, or listens, any more.
                let _ = tells.send(Ok(()));
                let _ = asks.iter().try_for_each(|sum| tells.send(communicator.sum(&sum)));
            }
        };
        thread::Builder::new().name("upstill-nccl".into()).spawn(serve).map_err(|error| error.to_string())?;
        let thread = Thread { asked, done };
        thread.answer(limit.min(JOINING))?;
        Ok(Self { thread: Mutex::new(thread), limit })
    }

    /// The sum of the values of all ranks, to the bit the same on each, in place where nothing else has the memory. In
    /// bf16 NCCL rounds after each addition.
    ///
    /// # Errors
    /// When the device or NCCL fails, or another rank is not heard of for too long.
    pub async fn sum(&self, values: Tensor<1>, dtype: SumDtype) -> Result<Tensor<1>> {
        let is_rounded = dtype == SumDtype::Bf16;
        let (values, dtype) = match dtype {
            SumDtype::F32 => (values, sys::ncclDataType_t::ncclFloat32),
            SumDtype::Bf16 => (values.cast(FloatDType::BF16), sys::ncclDataType_t::ncclBfloat16),
        };
        let from = into_contiguous(values.try_into_primitive::<CubeBackend>().expect("a GPU's tensor"));
        let into = if from.can_mut() { from.clone() } else { like(&from) };
        let at = |x: &CubeTensor| {
            let resource = x.client.get_resource::<Server>(x.handle.clone());
            resource.map_err(|error| failed("the gradients", &error))
        };
        // Held until the sum is over, so that the memory is.
        let (memory_from, memory_into) = (at(&from)?, at(&into)?);
        from.client.sync().await.map_err(|error| failed("the gradients", &error))?;
        let (from, at_into) = (memory_from.resource().ptr, memory_into.resource().ptr);
        let sum = Sum { from, into: at_into, count: into.meta.num_elements(), dtype };
        let done = {
            let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
            // Where the thread is gone, its answer says so.
            let _ = thread.asked.send(sum);
            thread.answer(self.limit)
        };
        drop((memory_from, memory_into));
        done.map_err(|why| {
            Error::new(format!("the sum through NCCL failed: {why}"))
                .help("--resume goes on from the last checkpoint; UPSTILL_SUM=host sums through MPI")
        })?;
        let sum = Tensor::<1>::from_primitive::<CubeBackend>(into);
        Ok(if is_rounded { sum.cast(FloatDType::F32) } else { sum })
    }
}

/// Memory of the shape of another tensor.
fn like(x: &CubeTensor) -> CubeTensor {
    empty_device_contiguous_dtype(x.client.clone(), x.device.clone(), x.meta.shape().clone(), x.dtype)
}

/// A place among the ranks, and the stream of its sums. Of the thread that made it.
struct Communicator {
    handle: sys::ncclComm_t,
    stream: CUstream,
}

impl Communicator {
    fn join(device: cudarc::driver::sys::CUdevice, id: sys::ncclUniqueId, (rank, ranks): (usize, usize)) -> Why<Self> {
        let told = |error: driver::DriverError| format!("{error:?}");
        let mut handle = MaybeUninit::uninit();
        // SAFETY: the device is one of the driver's; its context is the one in which cubecl works, and is kept to the
        // end. The id is NCCL's own, and the handle is read only where NCCL has written it.
        let handle = unsafe {
            driver::ctx::set_current(driver::primary_ctx::retain(device).map_err(told)?).map_err(told)?;
            let joined = nccl::comm_init_rank(handle.as_mut_ptr(), ranks as i32, id, rank as i32);
            joined.map_err(|error| reason("ncclCommInitRank", &error))?;
            handle.assume_init()
        };
        Ok(Self { handle, stream: driver::stream::create(driver::stream::StreamKind::NonBlocking).map_err(told)? })
    }

    /// Sums, and waits for the end of it.
    fn sum(&self, sum: &Sum) -> Why<()> {
        let add = sys::ncclRedOp_t::ncclSum;
        // SAFETY: the caller keeps the memory, of as many numbers, until this has told it of the end.
        let begun = unsafe {
            nccl::all_reduce(sum.from as *const _, sum.into as *mut _, sum.count, sum.dtype, add, self.handle, self.stream.cast())
        };
        begun.map_err(|error| reason("ncclAllReduce", &error))?;
        let started = Instant::now();
        loop {
            // SAFETY: the stream is this thread's own.
            match unsafe { cuStreamQuery(self.stream) } {
                CUresult::CUDA_SUCCESS => return Ok(()),
                CUresult::CUDA_ERROR_NOT_READY => self.must_go_on()?,
                error => return Err(format!("cuStreamQuery: {error:?}")),
            }
            if started.elapsed() < BUSY { yield_now() } else { sleep(Duration::from_micros(50)) }
        }
    }

    /// What went wrong on the way to another rank is found nowhere else: the sum would never end.
    fn must_go_on(&self) -> Why<()> {
        let mut state = sys::ncclResult_t::ncclSuccess;
        // SAFETY: the communicator is this thread's own.
        let asked = unsafe { sys::ncclCommGetAsyncError(self.handle, &raw mut state) };
        let found = asked.result().and_then(|_| state.result());
        found.map(drop).map_err(|error| {
            // SAFETY: nothing is asked of it after this. Frees the GPU of a sum that waits for ever.
            let _ = unsafe { nccl::comm_abort(self.handle) };
            reason("NCCL", &error)
        })
    }
}
