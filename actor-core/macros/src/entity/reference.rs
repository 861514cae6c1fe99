//! The typed reference of an entity: a newtype to which `#[handlers]` adds the methods.
//!
//! It is printed by the derive because only the derive sees the type's visibility, which the
//! reference must share: a more visible one could not deref to a reference of a private type.

use proc_macro2::TokenStream;
use quote::{format_ident, quote_spanned};

use super::Entity;
use crate::{attributes, problems::blame};

/// Prints the type and its impls.
pub(crate) fn print(entity: &Entity) -> TokenStream {
    let Entity {
        ident, visibility, ..
    } = entity;
    let reference = format_ident!("{ident}Ref", span = ident.span());
    let name = reference.to_string();
    let docs = format!("A reference to one `{ident}`.");
    let target = quote_spanned!(blame(ident)=> ::actor_core::__private::EntityRef<#ident>);
    let quiet = attributes::quiet();
    // The span makes a missing `#[handlers]` an error at the type's name.
    quote_spanned! {blame(ident)=>
        #[doc = #docs]
        #quiet
        #visibility struct #reference(#target);

        #quiet
        const _: () = {
            impl ::core::clone::Clone for #reference {
                fn clone(&self) -> Self {
                    Self(::core::clone::Clone::clone(&self.0))
                }
            }

            impl ::core::fmt::Debug for #reference {
                fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    f.debug_tuple(#name).field(&self.0).finish()
                }
            }

            impl ::core::convert::From<#target> for #reference {
                fn from(reference: #target) -> Self {
                    Self(reference)
                }
            }

            impl ::core::ops::Deref for #reference {
                type Target = #target;

                fn deref(&self) -> &Self::Target {
                    &self.0
                }
            }
        };
    }
}
