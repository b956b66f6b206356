-- What posted in a statement's period beside what the statement says (reconciliation R3).
{{ config(materialized='view') }}

{{ statements_compared(ref('fct_statements')) }}
