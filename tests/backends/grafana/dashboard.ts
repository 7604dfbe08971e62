// What a dashboard of ours may be made of: Grafana's own types, of the version in docker-compose.yml, with nothing beside
// them. Its panels are rows and time series, whose options are typed too.
import type { Dashboard, FieldConfig, GraphFieldConfig, Panel, RowPanel } from "@grafana/schema";
import type { Options } from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

// JSON has text where the types have enumerations of text.
type Json<T> = T extends string ? `${T}` : T extends object ? { [K in keyof T]: Json<T[K]> } : T;

type TimeSeries = Omit<Panel, "type" | "options" | "fieldConfig" | "title" | "description"> & {
  type: "timeseries";
  title: string;
  description: string;
  options: Omit<Options, "annotations">;
  fieldConfig: { defaults: Omit<FieldConfig, "custom"> & { custom: GraphFieldConfig }; overrides: [] };
};

export type Checked = Json<Omit<Dashboard, "panels"> & { panels: Array<RowPanel | TimeSeries> }>;
