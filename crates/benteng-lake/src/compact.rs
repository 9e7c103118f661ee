//! Sorted rows without the buffers of their neighbours. A batch of string views that a sort
//! puts together points into every buffer of the run it came from, and counts as long as
//! they do: 1024 rows were counted as 5 MB, and the merge behind two sorts found no memory
//! (64 MB). Behind each sort, such batches are copied into buffers of their own.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, GenericByteViewArray};
use arrow::datatypes::{BinaryViewType, ByteViewType, DataType, StringViewType};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::StreamExt;

/// Bytes that a batch may hold beyond its own without being copied.
const SLACK: usize = 64 << 10;

/// Passes batches on, views in buffers of their own.
#[derive(Debug)]
pub(crate) struct CompactExec {
    input: Arc<dyn ExecutionPlan>,
}

impl CompactExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>) -> CompactExec {
        CompactExec { input }
    }
}

impl DisplayAs for CompactExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CompactExec")
    }
}

impl ExecutionPlan for CompactExec {
    fn name(&self) -> &str {
        "CompactExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.into_iter().next().unwrap_or_else(|| Arc::clone(&self.input));
        Ok(Arc::new(CompactExec { input }))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let schema = input.schema();
        let batches = input.map(|batch| batch.and_then(|batch| compact(&batch)));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

fn compact(batch: &RecordBatch) -> Result<RecordBatch> {
    let column = |column: &ArrayRef| match column.data_type() {
        DataType::Utf8View => own::<StringViewType>(column, column.as_byte_view()),
        DataType::BinaryView => own::<BinaryViewType>(column, column.as_byte_view()),
        _ => Arc::clone(column),
    };
    let columns = batch.columns().iter().map(column).collect();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(batch.schema(), columns, &options)?)
}

fn own<T: ByteViewType + ?Sized>(column: &ArrayRef, views: &GenericByteViewArray<T>) -> ArrayRef {
    let held: usize = views.data_buffers().iter().map(|buffer| buffer.capacity()).sum();
    let used = views.total_buffer_bytes_used();
    if held > 2 * used + SLACK { Arc::new(views.gc()) } else { Arc::clone(column) }
}

#[cfg(test)]
mod tests {
    use arrow::array::StringViewArray;

    use super::*;

    #[test]
    fn i7_a_slice_of_views_lets_go_of_what_it_does_not_show() {
        let long = |n: usize| format!("{n:0>100}");
        let all: ArrayRef = Arc::new((0..100_000).map(|n| Some(long(n))).collect::<StringViewArray>());
        let batch = RecordBatch::try_from_iter([("s", all.slice(500, 100))]).expect("batch");
        let own = compact(&batch).expect("compacts");
        assert_eq!(own, batch);
        assert!(own.get_array_memory_size() < 100_000, "{} bytes for 100 rows", own.get_array_memory_size());
        let small: ArrayRef = Arc::new((0..100).map(|n| Some(long(n))).collect::<StringViewArray>());
        let batch = RecordBatch::try_from_iter([("s", small)]).expect("batch");
        let kept = compact(&batch).expect("compacts");
        assert!(Arc::ptr_eq(kept.column(0), batch.column(0)), "nothing is copied without need");
    }
}
