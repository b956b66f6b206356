"""dbt's models as assets, their data tests as asset checks."""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import dagster as dg
from dagster_dbt import (
    DagsterDbtTranslator,
    DagsterDbtTranslatorSettings,
    DbtCliResource,
    DbtProject,
    dbt_assets,
)
from dagster_dbt.compat import DBT_PYTHON_VERSION
from dagster_dbt.errors import DagsterDbtCliRuntimeError

from pipelines.defs.common import DAILY_FRESHNESS, OWNERS, POOL, RETRIES, table_metadata
from pipelines.errors import CardlineError
from pipelines.settings import get_settings
from pipelines.transform import (
    DBT_DIR,
    TESTED,
    TEXT,
    WATERMARK,
    dbt_arguments,
    ensure_manifest,
    news,
    news_since,
    program_zones,
    text_of_models,
    told_failures,
)
from pipelines.warehouse import (
    connect,
    held_open,
    latest_load_no,
    set_watermark,
    snapshots,
    watermark,
)

MANIFEST = ensure_manifest()


class Translator(DagsterDbtTranslator):
    """Names assets `[layer, model]`: the schema of a model is its layer."""

    def __init__(self) -> None:
        super().__init__(settings=DagsterDbtTranslatorSettings(enable_source_tests_as_checks=True))

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        if dbt_resource_props["resource_type"] == "source":
            layer = dbt_resource_props["schema"]
            if layer in ("landing", "quarantine", "ops"):
                return dg.AssetKey(["landing", "deliveries"])
            return dg.AssetKey([layer, dbt_resource_props["name"]])
        return dg.AssetKey([self._layer(dbt_resource_props), dbt_resource_props["name"]])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str:
        return self._layer(dbt_resource_props)

    @staticmethod
    def _layer(properties: Mapping[str, Any]) -> str:
        folder = properties["fqn"][1] if len(properties["fqn"]) > 2 else properties["schema"]
        return str(folder)

    def get_asset_spec(self, manifest: Any, unique_id: str, project: DbtProject | None) -> Any:
        spec = super().get_asset_spec(manifest, unique_id, project)
        return spec.replace_attributes(owners=OWNERS, freshness_policy=DAILY_FRESHNESS)


class DbtResource(DbtCliResource):
    """The dbt command line without two things that cost every run eight seconds.

    The version comes from the installed package and not from a process of its own, and dbt's
    adapter is not loaded in this process too: only row counts and column metadata would ask it,
    and nothing here has dagster-dbt fetch these.
    """

    @cached_property
    def _cli_version(self) -> Any:
        return DBT_PYTHON_VERSION

    def _initialize_dbt_core_adapter(self, args: Sequence[str]) -> Any:
        return None


_PROJECT = DbtProject(
    project_dir=DBT_DIR,
    profiles_dir=DBT_DIR,
    target_path=get_settings().dbt_target_dir,
)


@dbt_assets(
    manifest=MANIFEST,
    project=_PROJECT,
    exclude="finance,resource_type:model",
    name="curated_tables",
    dagster_dbt_translator=Translator(),
    pool=POOL,
    retry_policy=RETRIES,
)
def curated_tables(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
    from pipelines.rewards.terms import load_programs

    zones = program_zones(load_programs(get_settings().programs))
    with connect() as con:
        load_no = latest_load_no(con)
        text = text_of_models()
        is_other_text = watermark(con, TEXT) != text
        is_full = is_other_text or context.op_config.get("full_refresh")
        since = -1 if is_full else watermark(con, WATERMARK)
        tested = watermark(con, TESTED)
        if snapshots(con)[0] > tested + 1:
            tested = -1  # What was written since cannot be told any more.
        what_is_new = news_since(con, since, tested)
    # Tables may have got other columns.
    how = ("--full-refresh",) if is_other_text else ()
    yield from _build(context, dbt, what_is_new | zones, *how)
    if context.selected_asset_keys != curated_tables.keys:
        # Of some tables only: the others have yet to see what is new.
        return
    with connect() as con:
        set_watermark(con, TEXT, text)
        set_watermark(con, TESTED, snapshots(con)[1])
        set_watermark(con, WATERMARK, load_no)


@dbt_assets(
    manifest=MANIFEST,
    project=_PROJECT,
    select="finance",
    name="finance_tables",
    dagster_dbt_translator=Translator(),
    pool=POOL,
    retry_policy=RETRIES,
)
def finance_tables(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
    yield from _build(context, dbt, news())


_NOT_SHOWN = ("dim_customers", "fct_earning_events")


def _build(
    context: dg.AssetExecutionContext,
    dbt: DbtCliResource,
    what_is_new: Mapping[str, str],
    *options: str,
) -> Iterator[Any]:
    os.environ.update(what_is_new)
    arguments = ["build", "--exclude-resource-type", "unit_test", *options, *dbt_arguments()]
    with held_open():
        running = dbt.cli(arguments, context=context)
        try:
            for event in running.stream():
                yield _measured(context, event) if isinstance(event, dg.Output) else event
        except DagsterDbtCliRuntimeError as error:
            told = told_failures(running.target_path)
            if told is None:
                raise
            # dbt's own text is in the step's log: the last cause is what commands show.
            context.log.error(str(error))
            raise CardlineError(told) from None


def _measured(context: dg.AssetExecutionContext, built: dg.Output[Any]) -> dg.Output[Any]:
    """`built` with a preview, of tables the row count.

    To count a view would be to work it out, whole histories of it each day; of one it is so for the
    first rows as well. People have no preview.
    """
    key = context.asset_key_for_output(built.output_name)
    layer, name = key.path
    is_shown = layer in ("marts", "features", "finance") and name not in _NOT_SHOWN
    known = context.assets_def.metadata_by_key[key]
    table = known["dagster/table_name"].partition(".")[2]
    is_counted = known["dagster-dbt/materialization_type"] != "view"
    with connect(read_only=True) as con:
        measures = table_metadata(con, table, is_personal=not is_shown, is_counted=is_counted)
    return built.with_metadata({**built.metadata, **measures})
