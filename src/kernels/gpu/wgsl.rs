//! Shaders written by hand, as CubeCL's runtime takes them.

use cubecl::client::Client;
use cubecl::ir::{ElemType, UIntKind, metadata::Info};
use cubecl::prelude::{
    AddressType, CubeCount, CubeDim, ExecutionMode, KernelDefinition, KernelId, KernelMetadata, KernelSettings, Scope,
};
use cubecl::server::KernelArguments;
use cubecl::{CubeKernel, PrecompiledSource};

use burn_cubecl::tensor::CubeTensor;

use crate::device::Traits;

/// A shader whose entry point is `main`.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Wgsl {
    /// The whole of it.
    pub source: &'static str,
    /// Invocations of a workgroup: the shader's own number.
    pub workgroup: u32,
}

impl Wgsl {
    /// Whether the runtime of `client` takes WGSL.
    pub fn runs_on(client: &Client) -> bool {
        Traits::of_runtime(client.name()).takes_wgsl
    }

    /// Runs it on tensors, bound in this order, and after them `params`: words of four bytes.
    pub fn launch<const N: usize>(self, groups: [usize; 3], tensors: [&CubeTensor; N], params: &[[u8; 4]]) {
        let client = tensors[0].client.clone();
        let params = client.create_from_slice(params.as_flattened()).binding();
        let buffers = tensors.iter().map(|x| x.handle.clone().binding()).chain([params]).collect();
        let [x, y, z] = groups.map(|count| count as u32);
        client.launch(Box::new(self), CubeCount::Static(x, y, z), KernelArguments::new().with_buffers(buffers));
    }
}

impl KernelMetadata for Wgsl {
    fn id(&self) -> KernelId {
        KernelId::new::<Self>().info(self.source)
    }

    fn address_type(&self) -> ElemType {
        UIntKind::U32.into()
    }
}

impl CubeKernel for Wgsl {
    fn define(&self) -> KernelDefinition {
        let settings = KernelSettings::new(CubeDim::new_1d(self.workgroup).0, ExecutionMode::Checked, AddressType::U32);
        KernelDefinition { body: Scope::root(settings.clone()), settings, info: Info::default() }
    }

    fn source(&self) -> Option<PrecompiledSource> {
        Some(PrecompiledSource { source: self.source.to_owned(), entrypoint_name: "main".to_owned(), lang: "wgsl" })
    }
}
