{#
  The accounts that entries are made on: account_code as in the posting matrix, and the number and
  name that the general ledger knows it by (the variable chart_of_accounts).
#}
{% macro chart_of_accounts() -%}
    select
        account_code,
        gl_account,
        account_name
    from (
        values
        {%- for code, account in var('chart_of_accounts').items() %}
        (
            '{{ code }}',
            '{{ (account.account or code) | string | replace("'", "''") }}',
            '{{ account.name | replace("'", "''") }}'
        ){{ ',' if not loop.last }}
        {%- endfor %}
    ) as chart (account_code, gl_account, account_name)  -- noqa: AL05
{%- endmacro %}
