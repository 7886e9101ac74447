//! Join tokens and operators.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::{delete, get},
};
use serde::{Deserialize, Serialize};

use super::{By, Failure, Input};
use crate::{
    control::Control,
    store::{
        actions::{self, Action},
        operators::{self, Operator},
        tokens::{self, Token},
    },
};

/// Actions in one answer.
const ACTIONS_MAX: usize = 500;

/// A wish for a join token.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    pub group: String,
    /// Seconds that it is good for.
    pub valid_s: u64,
}

/// A wish for an operator.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewOperator {
    pub name: String,
    pub roles: Vec<String>,
}

/// A new operator's secret, shown once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OperatorSecret {
    pub secret: String,
}

pub(super) fn router() -> Router<Arc<Control>> {
    Router::new()
        .route("/tokens", get(tokens).post(create_token))
        .route("/operators", get(operators).post(create_operator))
        .route("/operators/{name}", delete(remove_operator))
        .route("/actions", get(actions))
}

async fn tokens(State(control): State<Arc<Control>>, _: By) -> Result<Json<Vec<Token>>, Failure> {
    Ok(Json(control.read("list the tokens", tokens::list).await?))
}

/// Answers the token's text.
async fn create_token(
    State(control): State<Arc<Control>>,
    By(operator): By,
    Input(wish): Input<NewToken>,
) -> Result<Json<String>, Failure> {
    let token = control.create_token(&operator, &wish.group, Duration::from_secs(wish.valid_s)).await?;
    Ok(Json(token.to_string()))
}

async fn operators(State(control): State<Arc<Control>>, _: By) -> Result<Json<Vec<Operator>>, Failure> {
    Ok(Json(control.read("list the operators", operators::list).await?))
}

async fn create_operator(
    State(control): State<Arc<Control>>,
    By(operator): By,
    Input(wish): Input<NewOperator>,
) -> Result<Json<OperatorSecret>, Failure> {
    let secret = control.create_operator(&operator, &wish.name, wish.roles).await?;
    Ok(Json(OperatorSecret { secret }))
}

async fn remove_operator(
    State(control): State<Arc<Control>>,
    By(operator): By,
    Path(name): Path<String>,
) -> Result<Json<()>, Failure> {
    Ok(Json(control.remove_operator(&operator, &name).await?))
}

async fn actions(State(control): State<Arc<Control>>, _: By) -> Result<Json<Vec<Action>>, Failure> {
    Ok(Json(control.read("list what operators did", |c| actions::list(c, ACTIONS_MAX)).await?))
}
