{#
  The flows between an opening and a closing liability, in the order in which money walks through
  them: name, the account on their other side, their sign, the types of entries that make them.
#}
{% macro liability_flows() %}
    {{ return([
        ('accrued', 'ISSUANCE', 1, ['ACCRUAL']),
        ('adjusted', 'ADJUSTMENT', 1, ['ADJUSTMENT']),
        ('clawed_back', 'CLAWED_BACK', -1, ['CLAWBACK']),
        ('redeemed', 'REDEEMED', -1, ['REDEMPTION', 'REDEMPTION_CANCEL']),
        ('transferred', 'PARTNER_TRANSFER_CLEARING', -1, ['TRANSFER']),
        ('expired', 'EXPIRED', -1, ['EXPIRY']),
        ('forfeited', 'FORFEITED', -1, ['FORFEITURE']),
        ('written_off', 'WRITTEN_OFF', 1, ['WRITE_OFF']),
    ]) }}
{% endmacro %}

{#
  The ledger accounts that hold what members are owed.
#}
{% macro liability_accounts() %}
    {{ return(['MEMBER_PENDING', 'MEMBER_AVAILABLE', 'REDEMPTION_CLEARING']) }}
{% endmacro %}

{#
  Columns of what the opening balance, the balance after each flow (balance_<n>_minor) and the
  closing balance are worth, at the period's value of a point.
#}
{% macro balances_in_money() -%}
    {{ money_from_points('opening_points', 'opening_value_micros') }} as opening_minor,
    {{ money_from_points('opening_points', 'point_value_micros') }} as balance_0_minor,
    {%- set walk = namespace(balance='opening_points') %}
    {%- for flow, account, sign, types in liability_flows() %}
    {%- set walk.balance = walk.balance ~ (' + ' if sign > 0 else ' - ') ~ flow ~ '_points' %}
    {{ money_from_points('(' ~ walk.balance ~ ')', 'point_value_micros') }}
        as balance_{{ loop.index }}_minor,
    {%- endfor %}
    {{ money_from_points('closing_points', 'point_value_micros') }} as closing_minor
{%- endmacro %}

{#
  Columns of the flows in money: each the balance after it less the one before it. A new value of a
  point revalues the opening balance, which is contained in what was adjusted.
#}
{% macro flows_in_money() -%}
    {%- for flow, account, sign, types in liability_flows() %}
    {{ sign }} * (balance_{{ loop.index }}_minor - balance_{{ loop.index0 }}_minor)
    {%- if flow == 'adjusted' %} + (balance_0_minor - opening_minor){% endif %}
        as {{ flow }}_minor,
    {%- endfor %}
    balance_0_minor - opening_minor as revalued_minor
{%- endmacro %}
