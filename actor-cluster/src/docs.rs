//! The guide, compiled.

#[doc = include_str!("docs/getting_started.md")]
pub mod getting_started {}

#[doc = include_str!("docs/entities.md")]
pub mod entities {}

#[doc = include_str!("docs/durable_state.md")]
pub mod durable_state {}

#[doc = include_str!("docs/cluster.md")]
pub mod cluster {}

#[doc = include_str!("docs/once.md")]
pub mod once {}

#[doc = include_str!("docs/failure_model.md")]
pub mod failure_model {}

#[doc = include_str!("docs/operating.md")]
pub mod operating {}

#[doc = include_str!("docs/cost_model.md")]
pub mod cost_model {}

/// The README's example is compiled with the guide's.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub mod readme {}

#[cfg(feature = "sim")]
#[doc = include_str!("docs/testing.md")]
pub mod testing {}

/// Runs a simulation that a chapter shows: rustdoc leaves out what is marked as a test.
#[cfg(feature = "sim")]
#[doc(hidden)]
#[macro_export]
macro_rules! __shown {
    (
        #[sim::test($(nodes = $nodes:literal,)? host($($kind:ty),*) $(, seeds = $seeds:literal)?)]
        async fn $name:ident($sim:ident: Sim) $(-> $output:ty)? $body:block
    ) => {
        async fn $name($sim: $crate::sim::Sim) $(-> $output)? $body

        let options = $crate::sim::Options {
            name: stringify!($name),
            nodes: [$($nodes,)? 1][0],
            seeds: [$($seeds,)? 1][0],
            host: <($($kind,)*) as $crate::sim::__private::Component>::install,
        };
        $crate::sim::__private::run(options, |sim| {
            Box::pin(async move { $crate::sim::__private::finish($name(sim).await) })
        });
    };
}
