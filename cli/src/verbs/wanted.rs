//! What people write for a model or one component of it: NAME or NAME:COMPONENT.

use hoist_wire::v1;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::verbs::show;

/// A model, and which of its components are meant. None: all of them.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) model: v1::Model,
    pub(crate) components: Vec<String>,
}

/// The model that is called so, or else the one that what stands before the last colon is called: a name with a colon in
/// it wins over a component. `flags` are components that were named beside it.
pub(crate) async fn resolve(client: &Client, written: &str, flags: &[String]) -> Result<Wanted> {
    let whole = match show::catalogued(client, written).await {
        Ok(model) => return Ok(Wanted { model, components: flags.to_vec() }),
        Err(error) => error,
    };
    // What is wrong with the whole may be no more than the colon in it.
    let may_have_parts = matches!(whole.exit(), Exit::NotFound | Exit::Usage);
    let Some((name, component)) = split(written).filter(|_| may_have_parts) else { return Err(whole) };
    let model = show::catalogued(client, name).await?;
    if !flags.is_empty() {
        return Err(Error::usage(
            format!("`{written}` names a component, and so does --component"),
            Some("leave one of the two out"),
        ));
    }
    Ok(Wanted { model, components: vec![component.to_owned()] })
}

/// The two sides of the last colon, where both can be what they should be.
fn split(written: &str) -> Option<(&str, &str)> {
    let (name, component) = written.rsplit_once(':')?;
    (!name.is_empty() && !component.is_empty() && !component.contains('/')).then_some((name, component))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_stands_behind_the_last_colon() {
        assert_eq!(split("sdxl:vae"), Some(("sdxl", "vae")));
        assert_eq!(split("a:b:text_encoder_2"), Some(("a:b", "text_encoder_2")));
        assert_eq!(split("/m/a:b.safetensors:vae"), Some(("/m/a:b.safetensors", "vae")));
        for whole in ["sdxl", "sdxl:", ":vae", "/m/odd:folder/a.safetensors"] {
            assert_eq!(split(whole), None, "{whole}");
        }
    }
}
