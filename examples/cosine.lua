-- How does a cosine go on?  FastLSTM with NormStabilizer, which then runs on its own predictions.
require 'rnn'
torch.manualSeed(1)

local RHO, BATCH, SIZE = 10, 80, 20
local wave = torch.linspace(0, 200, 500):cos()    -- a period has about 16 points

local function network(size, strength)
   return nn.Sequencer(nn.Sequential()
      :add(nn.Linear(1, size))
      :add(nn.FastLSTM(size, size))
      :add(nn.NormStabilizer(strength))           -- keeps the norm of the state from drifting
      :add(nn.Linear(size, 1))
      :add(nn.HardTanh()))
end

-- rho points from each of the places, which move on, and the point behind them
local function window(wave, places, rho)
   local inputs = {}
   for t = 1, rho do
      inputs[t] = wave:index(1, places):view(-1, 1)
      places:add(1)
      places[places:gt(wave:size(1))] = 1
   end
   return inputs, wave:index(1, places):view(-1, 1)
end

local function train(model, wave, places, rho, iterations, rate, momentum)
   local criterion, gradOutputs = nn.MSECriterion(), {}
   for t = 1, rho do gradOutputs[t] = torch.zeros(places:size(1), 1) end
   for i = 1, iterations do
      local inputs, target = window(wave, places, rho)
      local outputs = model:forward(inputs)
      local loss = criterion:forward(outputs[rho], target)
      gradOutputs[rho] = criterion:backward(outputs[rho], target)
      model:zeroGradParameters()
      model:backward(inputs, gradOutputs)
      model:updateGradParameters(momentum)
      model:updateParameters(rate)
      if i % 30 == 0 then print(string.format('iteration %3d   loss %.6f', i, loss)) end
   end
end

-- `count` points: the given ones, and then predictions, each made from the `rho` points before it
local function continue(model, start, count)
   local rho = start:size(1)
   local points = torch.Tensor(count)
   points:narrow(1, 1, rho):copy(start)
   model:evaluate()
   for t = rho + 1, count do
      local inputs = {}
      for s = 1, rho do inputs[s] = points:narrow(1, t - rho + s - 1, 1):view(1, 1) end
      points[t] = model:forward(inputs)[rho]:squeeze()
   end
   return points
end

local model = network(SIZE, 0.1)
print(model)
local places = torch.LongTensor(BATCH):random(wave:size(1))
train(model, wave, places, RHO, 300, 0.3, 0.9)

local predicted = continue(model, wave:narrow(1, 1, RHO), 120)
print('point   predicted    cosine')
for t = 20, 120, 20 do print(string.format('%5d   %9.4f   %7.4f', t, predicted[t], wave[t])) end
local errors = (predicted - wave:narrow(1, 1, 120)):abs()
print(string.format('farthest from the cosine: %.4f', errors:max()))

if arg[1] == '-plot' then
   require 'gnuplot'
   gnuplot.pngfigure('cosine.png')
   gnuplot.plot({'predicted', predicted, '+-'}, {'cosine', wave:narrow(1, 1, 120), '-'})
   gnuplot.plotflush()
end
