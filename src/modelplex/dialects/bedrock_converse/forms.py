"""The form of Amazon Bedrock's Converse. Providers only: no client path leads to it."""

from __future__ import annotations

from modelplex.dialects.form import Form

CONVERSE = Form(name="bedrock_converse", model_in_path=True)

FORMS = (CONVERSE,)
