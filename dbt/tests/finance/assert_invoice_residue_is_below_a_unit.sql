-- A line is rounded once: what it bills and the residue are the exact amount, and the residue is
-- at most half a minor unit.
select *
from {{ ref('partner_invoice_lines') }}
where
    amount_minor + rounding_residue <> amount_extended
    or abs(rounding_residue) > 0.5
