//! What a user would see; one file a story.

mod api_kubectl;
mod kubectl;
